package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/snapshot"
)

// version is the head of the change log.
func version(t *testing.T, c *Client) snapshot.Version {
	t.Helper()
	var list struct{ Version string }
	ok(t, c.Must(t.Context(), http.StatusOK, http.MethodGet, "/api/cardea/v1/nodes", nil, &list))
	return must[snapshot.Version](t)(snapshot.ParseVersion(list.Version))
}

// What a gateway acknowledged it serves from its own disk, after kill -9 in the
// middle of deployments and with nobody to ask.
func TestGatewayKilledInTheMiddleServesFromItsDisk(t *testing.T) {
	t.Parallel()
	backend := NewBackend()
	defer backend.Close()
	control := node(t, Node{Args: []string{"--roles", "control,identity,traffic,analytics"}})
	c := admin(t, control)
	gw := joinGateway(t, c, "gw-one")
	const apis, killAt = 24, 10
	ids := make([]string, apis)
	for i := range ids {
		ids[i] = must[string](t)(c.Import(t.Context(), openAPI(fmt.Sprintf("Disk%d", i), backend.URL)))
		ok(t, c.Must(t.Context(), http.StatusCreated, http.MethodPost, Publisher+"/apis/"+ids[i]+"/revisions", map[string]string{"description": "x"}, nil))
		ok(t, c.Must(t.Context(), http.StatusOK, http.MethodPost, Publisher+"/apis/change-lifecycle?action=Publish&apiId="+ids[i], nil, nil))
	}
	var mu sync.Mutex
	acknowledged := map[int]bool{}
	next := make(chan int)
	var writers sync.WaitGroup
	for range 3 {
		writers.Go(func() {
			for i := range next {
				var revs struct{ List []struct{ ID string } }
				if err := c.Must(t.Context(), http.StatusOK, http.MethodGet, Publisher+"/apis/"+ids[i]+"/revisions", nil, &revs); err != nil || len(revs.List) == 0 {
					t.Error(err)
					continue
				}
				a, err := c.Do(t.Context(), http.MethodPost, Publisher+"/apis/"+ids[i]+"/deploy-revision?revisionId="+revs.List[0].ID,
					[]map[string]any{{"name": "Default", "vhost": "localhost", "displayOnDevportal": true}})
				if err != nil || a.Status != http.StatusCreated {
					t.Errorf("deploy: %v, %+v", err, a)
					continue
				}
				if r := receiptOf(t, a); r.complete && r.acked == 1 {
					mu.Lock()
					acknowledged[i] = true
					if len(acknowledged) == killAt {
						go gw.Kill()
					}
					mu.Unlock()
				}
			}
		})
	}
	for i := range ids {
		next <- i
	}
	close(next)
	writers.Wait()
	control.Kill()
	gw.Kill()
	if len(acknowledged) < killAt {
		t.Fatalf("the gateway acknowledged %d deployments, want at least %d", len(acknowledged), killAt)
	}
	gw = restart(t, gw, "--roles", "gateway")
	for i := range acknowledged {
		if !reachable(t.Context(), gw.Gateway()+fmt.Sprintf("/disk%d/1.0.0/a", i)) {
			t.Errorf("API %d was acknowledged by the gateway and is gone after kill -9", i)
		}
	}
	back := restart(t, control)
	eventually(t, 15*time.Second, "the gateway catches up", func(ctx context.Context) bool { return current(ctx, c, "gw-one") })
	for i := range ids {
		if !reachable(t.Context(), gw.Gateway()+fmt.Sprintf("/disk%d/1.0.0/a", i)) {
			t.Errorf("API %d is not on the gateway after it caught up", i)
		}
	}
	ok(t, back.Stop())
}

func TestABitFlipOnTheGatewaysDiskIsNamedAndRepaired(t *testing.T) {
	t.Parallel()
	backend := NewBackend()
	defer backend.Close()
	control := node(t, Node{Args: []string{"--roles", "control,identity,traffic,analytics"}})
	c := admin(t, control)
	gw := joinGateway(t, c, "gw-one")
	flipped := must[string](t)(c.Import(t.Context(), openAPI("Flipped", backend.URL)))
	ok(t, c.Publish(t.Context(), flipped))
	whole := must[string](t)(c.Import(t.Context(), openAPI("Whole", backend.URL)))
	ok(t, c.Publish(t.Context(), whole))
	ok(t, gw.Stop())

	flip := func() {
		t.Helper()
		file := filepath.Join(gw.Home, "snapshot", "snapshot.log")
		b := must[[]byte](t)(os.ReadFile(file))
		at := bytes.LastIndex(b, []byte("/flipped"))
		if at < 0 {
			t.Fatal("the API is not in the log")
		}
		b[at+3] ^= 0x04
		ok(t, os.WriteFile(file, b, 0o600))
	}
	flip()
	gw = restart(t, gw, "--roles", "gateway")
	eventually(t, 10*time.Second, "the damaged API is fetched again", func(ctx context.Context) bool {
		return reachable(ctx, gw.Gateway()+"/flipped/1.0.0/a")
	})
	out := gw.Output()
	for _, part := range []string{"snapshot item damaged", "api/" + flipped, "snapshot items repaired"} {
		if !strings.Contains(out, part) {
			t.Errorf("the log does not say %q", part)
		}
	}
	ok(t, gw.Stop())

	// Repaired on the disk as well; and damaged again, with nobody to ask, it
	// costs that API alone.
	control.Kill()
	gw = restart(t, gw, "--roles", "gateway")
	if !reachable(t.Context(), gw.Gateway()+"/flipped/1.0.0/a") || strings.Contains(gw.Output(), "damaged\",") {
		t.Errorf("the repair did not reach the disk:\n%s", gw.Output())
	}
	ok(t, gw.Stop())
	flip()
	gw = restart(t, gw, "--roles", "gateway")
	if !reachable(t.Context(), gw.Gateway()+"/whole/1.0.0/a") {
		t.Error("a damaged API took another one with it")
	}
	restart(t, control)
	eventually(t, 15*time.Second, "the API is back with the control process", func(ctx context.Context) bool {
		return reachable(ctx, gw.Gateway()+"/flipped/1.0.0/a")
	})
}
