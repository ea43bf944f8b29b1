package usage

import "testing"

func TestBucketsAreContiguousAndCoverTheirValues(t *testing.T) {
	for v := uint64(0); v < 1<<16; v++ {
		b := Bucket(v)
		if v > Upper(b) || (b > 0 && v <= Upper(b-1)) {
			t.Fatalf("value %d is in bucket %d, which ends at %d (the one before at %d)", v, b, Upper(b), Upper(b-1))
		}
	}
}

func TestQuantile(t *testing.T) {
	var h Histogram
	for v := uint64(1); v <= 1000; v++ {
		h.Add(v)
	}
	for _, c := range []struct {
		q    float64
		want float64
	}{{0.5, 500}, {0.95, 950}, {0.99, 990}} {
		got := float64(h.Quantile(c.q))
		if got < c.want || got > c.want*1.3 {
			t.Errorf("quantile %v = %v, want about %v", c.q, got, c.want)
		}
	}
}
