package gateway

import (
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are counters without labels that callers could multiply.
type metrics struct {
	byClass  [6]atomic.Uint64 // by hundreds of the status
	refused  atomic.Uint64
	gone     atomic.Uint64
	backends atomic.Uint64
}

func (m *metrics) count(c *call) {
	switch {
	case c.gone:
		m.gone.Add(1)
	case c.Reply.Status/100 < len(m.byClass):
		m.byClass[c.Reply.Status/100].Add(1)
	}
	if c.refusal != nil {
		m.refused.Add(1)
	}
	if !c.sentAt.IsZero() {
		m.backends.Add(1)
	}
}

// Collectors are the gateway's metrics for Prometheus.
func (g *Gateway) Collectors() []prometheus.Collector {
	counter := func(name, help string, labels prometheus.Labels, v *atomic.Uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(v.Load()) })
	}
	gauge := func(name, help string, fn func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, fn)
	}
	m := &g.metrics
	out := []prometheus.Collector{
		counter("cardea_gateway_refused_total", "Calls the gateway refused.", nil, &m.refused),
		counter("cardea_gateway_abandoned_total", "Calls whose client left before the answer.", nil, &m.gone),
		counter("cardea_gateway_backend_calls_total", "Calls sent to a backend.", nil, &m.backends),
		gauge("cardea_gateway_calls_in_progress", "Calls being served.", func() float64 { return float64(g.inFlight.Load()) }),
		gauge("cardea_gateway_apis", "APIs served.", func() float64 { return float64(g.tables.Load().apis.Len()) }),
		gauge("cardea_gateway_failed_items", "Items of the last snapshot change that did not compile.", func() float64 { return float64(g.failed.Load()) }),
		gauge("cardea_gateway_snapshot_seq", "Sequence number of the snapshot in force.", func() float64 { return float64(g.tables.Load().version.Seq) }),
	}
	for class := 1; class < len(m.byClass); class++ {
		out = append(out, counter("cardea_gateway_answers_total", "Calls answered, by class of status.",
			prometheus.Labels{"class": strconv.Itoa(class) + "xx"}, &m.byClass[class]))
	}
	return out
}
