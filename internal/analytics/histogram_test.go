package analytics

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/cardea-apim/cardea/internal/usage"
)

func TestHistogramsMergeAndReadBackAsTheyWere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var want usage.Histogram
		var stored hist
		for range rapid.IntRange(0, 4).Draw(t, "parts") {
			var part usage.Histogram
			for _, v := range rapid.SliceOf(rapid.Uint64Max(1<<40)).Draw(t, "values") {
				part.Add(v)
			}
			want.Merge(part)
			var one hist
			one.add(&part)
			if err := stored.merge(one.encode()); err != nil {
				t.Fatal(err)
			}
		}
		for _, q := range []float64{0, 0.5, 0.95, 0.99, 1} {
			if got, want := stored.quantile(q), want.Quantile(q); got != want {
				t.Fatalf("quantile %v is %d, want %d", q, got, want)
			}
		}
		if stored.sum != want.Sum {
			t.Fatalf("sum %d, want %d", stored.sum, want.Sum)
		}
	})
}

func FuzzHistogram(f *testing.F) {
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h, again hist
		if h.merge(b) != nil {
			return
		}
		if err := again.merge(h.encode()); err != nil {
			t.Fatal(err)
		}
		for i := range h.n {
			if h.n[i] != again.n[i] {
				t.Fatalf("bucket %d: %d, want %d", i, again.n[i], h.n[i])
			}
		}
	})
}
