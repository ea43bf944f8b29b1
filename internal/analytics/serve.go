package analytics

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cardea-apim/cardea/internal/usage"
)

// replier is what Serve needs of a bus; *bus.Bus has it.
type replier interface {
	ReplyTo(subject, queue string, fn func(sender string, data []byte) []byte) (cancel func(), err error)
}

const (
	queue   = "analytics"
	readers = 4 // batches taken in at once, so that one commit carries several
	patient = 30 * time.Second
)

// Serve stores the batches that gateways send, and answers each after its commit,
// until ctx ends. A batch that cannot be stored is answered with the cause; its
// gateway sends it again. A batch of another gateway than the one that sent it
// is refused.
func (d *DB) Serve(ctx context.Context, b replier) error {
	for range readers {
		cancel, err := b.ReplyTo(usage.SubjectBatch, queue, func(sender string, data []byte) []byte { return d.take(ctx, sender, data) })
		if err != nil {
			return fmt.Errorf("serve analytics: %w", err)
		}
		defer cancel()
	}
	<-ctx.Done()
	return nil
}

// take stores one message of the sender.
func (d *DB) take(ctx context.Context, sender string, data []byte) []byte {
	// A batch under way is finished even when the server stops: it will be answered.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patient)
	defer cancel()
	var batch usage.Batch
	ack := usage.BatchAck{}
	switch err := json.Unmarshal(data, &batch); {
	case err != nil:
		ack.Error = "malformed batch: " + err.Error()
	case batch.Gateway != sender:
		ack.Error = fmt.Sprintf("a batch of gateway %.100q sent by %.100q", batch.Gateway, sender)
		d.foreign.Add(1)
	default:
		ack.Seq = batch.Seq
		if err := d.Store(ctx, batch); err != nil {
			ack.Error = err.Error()
		}
	}
	out, err := json.Marshal(ack)
	if err != nil {
		panic(err) // a struct of a number and a string
	}
	return out
}

// Collector gives the metrics of the store.
func (d *DB) Collector() prometheus.Collector { return collector{d} }

type collector struct{ d *DB }

var (
	descBatches  = prometheus.NewDesc("cardea_analytics_batches_total", "Batches of usage stored.", nil, nil)
	descRepeated = prometheus.NewDesc("cardea_analytics_batches_repeated_total", "Batches that were stored already.", nil, nil)
	descForeign  = prometheus.NewDesc("cardea_analytics_batches_refused_total", "Batches refused because another gateway than their own sent them.", nil, nil)
	descDropped  = prometheus.NewDesc("cardea_analytics_calls_dropped_total", "Raw calls that gateways dropped; their counters are exact all the same.", nil, nil)
	descBytes    = prometheus.NewDesc("cardea_analytics_bytes", "Size of the analytics file in use.", nil, nil)
	descUp       = prometheus.NewDesc("cardea_analytics_writable", "1 while the latest write succeeded.", nil, nil)
)

// Describe lists the metrics.
func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect reads them.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.d.Stats()
	up := 1.0
	if c.d.Health() != nil {
		up = 0
	}
	for _, m := range []struct {
		desc *prometheus.Desc
		kind prometheus.ValueType
		v    float64
	}{
		{descBatches, prometheus.CounterValue, float64(s.Batches)},
		{descRepeated, prometheus.CounterValue, float64(s.Repeated)},
		{descForeign, prometheus.CounterValue, float64(s.Refused)},
		{descDropped, prometheus.CounterValue, float64(s.Dropped)},
		{descBytes, prometheus.GaugeValue, float64(s.Bytes)},
		{descUp, prometheus.GaugeValue, up},
	} {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.v)
	}
}
