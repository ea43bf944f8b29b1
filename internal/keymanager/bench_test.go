package keymanager_test

import (
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/keymanager"
)

// BenchmarkClientCredentials measures the token endpoint over the real store,
// without the network.
func BenchmarkClientCredentials(b *testing.B) {
	for _, alg := range []string{"RS256", "ES256"} {
		b.Run(alg, func(b *testing.B) {
			var later atomic.Int64 // seconds; past the time in which a new client is not cached
			w := newWorld(b, func(o *keymanager.Options) {
				o.Algorithm = alg
				o.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load()) * time.Second) }
			})
			c, secret := w.client("admin", nil)
			later.Store(60)
			auth := basicOf(string(c.ID), secret)
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("POST", "/oauth2/token", strings.NewReader("grant_type=client_credentials"))
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				r.Header.Set("Authorization", auth)
				rec := httptest.NewRecorder()
				w.h.ServeHTTP(rec, r)
				if rec.Code != 200 {
					b.Fatal(rec.Body)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
