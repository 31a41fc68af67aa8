// Package cli is the command tree of tidings.
//
// It promises scripts:
//   - results go to stdout, everything else to stderr; with --json stdout is
//     JSON, one document or one line per result;
//   - exit codes mean what "tidings help exit-codes" says;
//   - a setting is looked up in one order: flag, environment (TIDINGS_ and the
//     flag's name), --config file; a key of the file that no command knows is
//     an error, not a silent default;
//   - input that is refused sends nothing, unless --skip-bad asks for the rest.
//
// Every command blocks until it is done or its context ends.
package cli
