package app

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// part is something of this process that can be unwell while the process
// serves: it does not take readiness away, but somebody must look.
type part struct {
	name   string
	health func() error
}

// watch has a part shown among the warnings of /nodes and in the metrics.
func (a *App) watch(name string, health func() error) {
	a.parts = append(a.parts, part{name, health})
	a.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cardea_part_healthy", Help: "Whether a part of this process is well (1) or not (0).",
		ConstLabels: prometheus.Labels{"part": name},
	}, func() float64 {
		if health() != nil {
			return 0
		}
		return 1
	}))
}

// maxWarning bounds what one part may say, bytes.
const maxWarning = 300

// warnings lists what is not well, as "part: cause", in a steady order.
func (a *App) warnings() []string {
	var out []string
	for _, p := range a.parts {
		if err := p.health(); err != nil {
			s := p.name + ": " + err.Error()
			out = append(out, s[:min(len(s), maxWarning)])
		}
	}
	slices.Sort(out)
	return out
}
