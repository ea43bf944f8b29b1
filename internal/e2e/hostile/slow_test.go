package hostile

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cardea-apim/cardea/internal/e2e"
)

// smallWindow lets a client take only some KB without reading.
func smallWindow(_, _ string, c syscall.RawConn) (err error) {
	if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) }); e != nil {
		return e
	}
	return err
}

// bulky answers with 8 MB, more than all buffers on the way hold.
func bulky(t *testing.T) string {
	piece := strings.Repeat("bulk", 16<<10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 128 {
			if _, err := io.WriteString(w, piece); err != nil {
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// crowdedSite is a node, and the paths that the kinds of crowds and the others
// call.
func crowdedSite(t *testing.T) (s *site, paths map[string]string) {
	s = start(t, e2e.Node{})
	backend := goodBackend(t)
	path := s.open(t, "Quick", backend, 0)
	return s, map[string]string{
		"other": s.open(t, "Other", goodBackend(t), 0),
		"idle":  path, "slow heads": path, "slow bodies": path, "slow readers": s.open(t, "Bulky", bulky(t), 0),
	}
}

// TestSlowClients has all kinds of slow clients at once: calls of another API
// all succeed, each connection costs little memory, and those who are slow are
// cut while those who are idle may stay.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	const n, idle = 200, 500
	needFiles(t, 4*n+2*idle+1000)
	s, paths := crowdedSite(t)
	for range 20 { // what every process needs to serve at all
		if o := call(t, http.MethodGet, s.Gateway()+paths["other"], nil); o.status != http.StatusOK {
			t.Fatalf("status %d, %v", o.status, o.err)
		}
	}
	before := s.memory(t, "VmRSS")
	other := newNeighbour(2, 5*time.Millisecond, s.Gateway()+paths["other"])
	rest := gather(t, s.host(), paths["idle"], "idle", idle)
	began := time.Now()
	slow := map[string]*crowd{}
	for _, kind := range []string{"slow heads", "slow bodies", "slow readers"} {
		slow[kind] = gather(t, s.host(), paths[kind], kind, n)
	}
	time.Sleep(2 * time.Second)
	each := (s.memory(t, "VmRSS") - before) / (3*n + idle)
	t.Logf("%d slow and %d idle connections take %d KB each", 3*n, idle, each)
	if each > 200 {
		t.Errorf("a connection takes %d KB", each)
	}

	// The time of a head is 10 s, the grace of bodies and readers too.
	const configured, latest = 10 * time.Second, 50 * time.Second
	for time.Since(began) < latest && len(slow) > 0 {
		time.Sleep(200 * time.Millisecond)
		for kind, c := range slow {
			gone, at := c.gone(), time.Since(began)
			if gone > 0 && at < configured/2 {
				t.Errorf("%s: cut after %v, the time is %v", kind, at, configured)
			}
			if gone == n {
				t.Logf("%s: all cut after %.1f s", kind, at.Seconds())
				c.close()
				delete(slow, kind)
			}
		}
	}
	for kind, c := range slow {
		t.Errorf("%s: only %d of %d were cut within %v", kind, c.gone(), n, latest)
	}
	other.end(t)
	if gone := rest.gone(); gone > 0 {
		t.Errorf("%d idle connections were cut before their time", gone)
	}
	for i, nc := range rest.conns {
		_, err := io.WriteString(nc, kinds["idle"].first(paths["idle"]))
		if err == nil {
			err = answered(nc)
		}
		if err != nil {
			t.Fatalf("idle connection %d: %v", i, err)
		}
	}
}

// TestCrowdsDoNotDelayOthers compares, for each kind of crowd in its full size,
// the 99th percentile of other calls with the same calls beside nothing: at
// most three times that, and at most 50 ms.
func TestCrowdsDoNotDelayOthers(t *testing.T) {
	if !long() {
		t.Skip("CARDEA_LONG is not set")
	}
	needFiles(t, 12_000)
	const runs, most = 5, 50 * time.Millisecond
	measure := func(target string) time.Duration {
		other := newNeighbour(4, 2*time.Millisecond, target)
		time.Sleep(4 * time.Second)
		return other.end(t)
	}
	t.Log("crowd of | p99 beside nothing (worst of five) | p99 beside the crowd (worst) | ratio")
	for _, c := range []struct {
		kind string
		n    int
	}{{"slow heads", 1000}, {"slow bodies", 1000}, {"slow readers", 1000}, {"idle", 5000}} {
		t.Run(c.kind, func(t *testing.T) {
			s, paths := crowdedSite(t)
			target := s.Gateway() + paths["other"]
			var alone, beside []time.Duration
			measure(target) // warms up
			for range runs {
				alone = append(alone, measure(target))
				all := gather(t, s.host(), paths[c.kind], c.kind, c.n)
				beside = append(beside, measure(target))
				if gone := all.gone(); gone > c.n/10 {
					t.Errorf("%d connections were cut while the others were measured", gone)
				}
				all.close()
				time.Sleep(time.Second)
			}
			slices.Sort(alone)
			slices.Sort(beside)
			base, with := alone[runs/2], beside[runs/2]
			t.Logf("%d %s | %v (%v) | %v (%v) | %.1f", c.n, c.kind, base, alone[runs-1], with, beside[runs-1], float64(with)/float64(base))
			// A machine that is too busy for the bound with nobody there says
			// nothing about it.
			if with > 3*base || with > most && alone[runs-1] <= most {
				t.Errorf("p99 of other calls is %v, beside nothing %v", with, base)
			}
		})
	}
}
