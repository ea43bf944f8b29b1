package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/store/pgtest"
)

// Of 1,000 writes with kill -9 in the middle, each acknowledged one is there
// after the restart.
func TestKillInTheMiddleOfWrites(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			n := Node{Home: filepath.Join(t.TempDir(), "home")}
			if engine == "postgres" {
				n.Env = []string{"CARDEA_DATABASE_URL=" + pgtest.URL(t)}
			}
			p := node(t, n)
			c := admin(t, p)
			const writes, writers = 1000, 16
			var mu sync.Mutex
			acknowledged := map[string]string{} // name to id
			killAt := 200 + rand.IntN(500)
			var killed sync.Once
			var wg sync.WaitGroup
			next := make(chan int)
			for range writers {
				wg.Go(func() {
					for i := range next {
						name := fmt.Sprintf("app-%04d", i)
						var app struct {
							ApplicationID string `json:"applicationId"`
						}
						err := c.Must(t.Context(), http.StatusCreated, http.MethodPost, Devportal+"/applications",
							map[string]any{"name": name, "throttlingPolicy": "Unlimited"}, &app)
						if err != nil {
							continue // cut off by the kill: not acknowledged
						}
						mu.Lock()
						acknowledged[name] = app.ApplicationID
						reached := len(acknowledged) == killAt
						mu.Unlock()
						if reached {
							killed.Do(p.Kill)
						}
					}
				})
			}
			for i := range writes {
				next <- i
			}
			close(next)
			wg.Wait()
			if len(acknowledged) < killAt {
				t.Fatalf("only %d writes were acknowledged", len(acknowledged))
			}

			began := time.Now()
			again := must[*Process](t)(Start(t.Context(), p.Node))
			t.Cleanup(again.Kill)
			t.Logf("%d writes acknowledged before the kill, ready again after %v", len(acknowledged), time.Since(began))
			lost := 0
			for name, id := range acknowledged {
				a := must[*Answer](t)(c.Do(t.Context(), http.MethodGet, Devportal+"/applications/"+id, nil))
				if a.Status != http.StatusOK {
					lost++
					t.Logf("%s is lost: status %d: %.200s", name, a.Status, a.Body)
				}
			}
			if lost > 0 {
				t.Errorf("%d of %d acknowledged writes are lost", lost, len(acknowledged))
			}
		})
	}
}
