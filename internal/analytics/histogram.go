package analytics

import (
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"

	"modernc.org/sqlite"

	"github.com/cardea-apim/cardea/internal/usage"
)

// A stored histogram is a sequence of unsigned varints: the sum, then pairs of
// bucket (as the distance from the bucket before) and count, in ascending order.
// An empty one is no bytes.

// hist is a histogram as an array, quick to merge.
type hist struct {
	sum uint64
	n   [usage.Buckets]uint64
}

var errHistogram = errors.New("malformed histogram")

func (h *hist) add(o *usage.Histogram) {
	h.sum = plus(h.sum, o.Sum)
	for b, n := range o.N {
		i := min(max(b, 0), usage.Buckets-1)
		h.n[i] = plus(h.n[i], n)
	}
}

// plus adds without wrapping around.
func plus(a, b uint64) uint64 {
	if s := a + b; s >= a {
		return s
	}
	return math.MaxUint64
}

func (h *hist) merge(blob []byte) error {
	if len(blob) == 0 {
		return nil
	}
	sum, n := binary.Uvarint(blob)
	if n <= 0 {
		return errHistogram
	}
	blob = blob[n:]
	h.sum = plus(h.sum, sum)
	at := 0
	for len(blob) > 0 {
		step, n := binary.Uvarint(blob)
		if n <= 0 || step >= usage.Buckets {
			return errHistogram
		}
		blob = blob[n:]
		count, n := binary.Uvarint(blob)
		if n <= 0 {
			return errHistogram
		}
		blob = blob[n:]
		if at += int(step); at >= usage.Buckets {
			return errHistogram
		}
		h.n[at] = plus(h.n[at], count)
	}
	return nil
}

func (h *hist) encode() []byte {
	var b []byte
	last := 0
	for i, n := range h.n {
		if n == 0 {
			continue
		}
		if b == nil {
			b = binary.AppendUvarint(make([]byte, 0, 32), h.sum)
		}
		b = binary.AppendUvarint(b, uint64(i-last))
		b = binary.AppendUvarint(b, n)
		last = i
	}
	return b
}

func (h *hist) count() (total uint64) {
	for _, n := range h.n {
		total += n
	}
	return total
}

// quantile is the value in microseconds below which the share q lies.
func (h *hist) quantile(q float64) uint64 {
	total := h.count()
	if total == 0 {
		return 0
	}
	rank := uint64(q*float64(total-1)) + 1
	var seen uint64
	for b, n := range h.n {
		if seen += n; seen >= rank {
			return usage.Upper(b)
		}
	}
	return usage.Upper(usage.Buckets - 1)
}

// register gives every connection hist_merge(a, b), by which a roll-up grows in
// one statement, and the aggregate hist_sum(a).
var register = sync.OnceValue(func() error {
	return errors.Join(
		sqlite.RegisterFunction("hist_merge", &sqlite.FunctionImpl{NArgs: 2, Deterministic: true, Scalar: func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
			var h hist
			for _, a := range args {
				if err := h.value(a); err != nil {
					return nil, err
				}
			}
			return h.encode(), nil
		}}),
		sqlite.RegisterFunction("hist_sum", &sqlite.FunctionImpl{NArgs: 1, Deterministic: true, VolatileArgs: true, MakeAggregate: func(sqlite.FunctionContext) (sqlite.AggregateFunction, error) {
			return &histSum{}, nil
		}}),
	)
})

func (h *hist) value(v driver.Value) error {
	switch b := v.(type) {
	case nil:
		return nil
	case []byte:
		return h.merge(b)
	default:
		return fmt.Errorf("histogram is %T", v)
	}
}

// histSum is hist_sum under way.
type histSum struct{ h hist }

// Step merges one more.
func (s *histSum) Step(_ *sqlite.FunctionContext, args []driver.Value) error {
	return s.h.value(args[0])
}

// WindowInverse is for window functions, where histograms have no place.
func (s *histSum) WindowInverse(*sqlite.FunctionContext, []driver.Value) error {
	return errors.New("hist_sum is not a window function")
}

// WindowValue is the result.
func (s *histSum) WindowValue(*sqlite.FunctionContext) (driver.Value, error) {
	return s.h.encode(), nil
}

// Final ends the aggregate.
func (s *histSum) Final(*sqlite.FunctionContext) {}
