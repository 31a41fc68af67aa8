package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

const envPrefix = "TIDINGS"

// settings fills the flags that the command line leaves out from the
// environment, then from the file.
type settings struct{ file string }

func configurationTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "configuration",
		Short: "Where settings come from",
		Long: `Every flag can also be set in the environment or in a file. The first that has
a value wins:

  1. the flag:         --brokers k1:9092,k2:9092
  2. the environment:  TIDINGS_BROKERS=k1:9092,k2:9092
  3. the file:         brokers: [k1:9092, k2:9092]

The environment's name is TIDINGS_ and the flag's name in capitals with _ for -:
--sasl-password-file is TIDINGS_SASL_PASSWORD_FILE. An empty variable counts as
not set.

The file is YAML, named by --config or TIDINGS_CONFIG. Its keys are the flags'
names; one file serves all commands, each takes what it knows. A key that no
command knows is an error.

  brokers: [k1:9092, k2:9092]
  tls: true
  sasl-mechanism: SCRAM-SHA-512
  sasl-username: orders
  sasl-password-file: /run/secrets/kafka
  postgres: postgres://orders@db/orders`,
	}
}

// load fills cmd's flags. A value that does not parse is an error that names
// where it came from.
func (s *settings) load(cmd *cobra.Command) error {
	v := viper.New()
	v.SetEnvPrefix(envPrefix)
	v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	v.AutomaticEnv()
	if s.file == "" {
		s.file = os.Getenv(envPrefix + "_CONFIG")
	}
	if s.file != "" {
		if err := readFile(v, s.file, cmd.Root()); err != nil {
			return usageError{err}
		}
	}
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "config" || f.Name == "help" || !v.IsSet(f.Name) {
			return
		}
		if err := f.Value.Set(value(v, f)); err != nil {
			errs = append(errs, fmt.Errorf("%s: value %q of --%s cannot be used: %w", s.origin(f.Name), v.GetString(f.Name), f.Name, err))
			return
		}
		// Changed is how commands tell a given value from a default.
		f.Changed = true
		fromElsewhere(f)
	})
	if len(errs) > 0 {
		return usageError{errors.Join(errs...)}
	}
	return nil
}

const elsewhere = "tidings.elsewhere"

// fromElsewhere notes that a flag's value is from the environment or the file.
func fromElsewhere(f *pflag.Flag) {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[elsewhere] = []string{"yes"}
}

// onCommandLine tells whether a flag was given there.
func onCommandLine(f *pflag.Flag) bool { return f.Changed && f.Annotations[elsewhere] == nil }

func value(v *viper.Viper, f *pflag.Flag) string {
	if f.Value.Type() != "stringSlice" {
		return v.GetString(f.Name)
	}
	if list, ok := v.Get(f.Name).([]any); ok {
		words := make([]string, len(list))
		for i, w := range list {
			words[i] = fmt.Sprint(w)
		}
		return strings.Join(words, ",")
	}
	return v.GetString(f.Name)
}

func (s *settings) origin(flag string) string {
	env := envPrefix + "_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
	if os.Getenv(env) != "" {
		return env
	}
	return s.file
}

func readFile(v *viper.Viper, file string, root *cobra.Command) error {
	v.SetConfigFile(file)
	v.SetConfigType("yaml")
	if err := v.ReadInConfig(); err != nil {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			return fmt.Errorf("reading the settings file %s: %w", file, pe.Err)
		}
		return fmt.Errorf("reading the settings file %s: %w", file, err)
	}
	known := flagNames(root)
	for key := range v.AllSettings() {
		if !slices.Contains(known, key) {
			return fmt.Errorf("settings file %s: unknown key %q; keys are the names of flags, see 'tidings help configuration'", file, key)
		}
	}
	return nil
}

func flagNames(cmd *cobra.Command) []string {
	var names []string
	add := func(f *pflag.Flag) { names = append(names, f.Name) }
	cmd.LocalFlags().VisitAll(add)
	for _, sub := range cmd.Commands() {
		names = append(names, flagNames(sub)...)
	}
	return names
}
