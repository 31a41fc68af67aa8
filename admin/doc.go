// Package admin is a process's operating port: metrics, health and profiles
// over HTTP.
//
// What it promises:
//
//   - /metrics: what is registered, in Prometheus' text or OpenMetrics form.
//   - /health/live: 200, or 503 with reasons when the process should be restarted.
//   - /health/ready: 200, or 503 with reasons when it cannot do its work now.
//     Both answer JSON and are never cached; all checks run at each request,
//     side by side, within Config.CheckTimeout.
//   - /debug/pprof/: the runtime's profiles.
//   - Run blocks until its context ends and every request has, within
//     Config.StopTimeout. A port in use is an error at once.
//
// # Security
//
// The port has no authentication. Its profiles show memory and command line, a
// CPU profile costs time, and health reasons name topics, handlers and hosts.
// So it binds to loopback by default. Where a scraper or a kubelet must reach
// it from elsewhere, bind it to an address of the internal network only, and let
// a network policy or a proxy that authenticates stand before it; never publish
// it. Config.NoProfiles leaves out /debug/pprof/.
package admin
