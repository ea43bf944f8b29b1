package e2e

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/store/pgtest"
)

// Two control processes on one PostgreSQL: each sees and delivers what the other
// one writes, and when the one that relays is killed the other takes over.
func TestTwoControlProcesses(t *testing.T) {
	backend := NewBackend()
	defer backend.Close()
	env := []string{"CARDEA_DATABASE_URL=" + pgtest.URL(t), "CARDEA_MASTER_KEY=" + strings.Repeat("5a", 32)}
	first := Node{Home: filepath.Join(t.TempDir(), "first"), Offset: must[int](t)(FreeOffset()), Env: env, Args: []string{"--roles", "control,identity,traffic,analytics"}}
	second := Node{
		Home: filepath.Join(t.TempDir(), "second"), Offset: must[int](t)(FreeOffset()), Args: []string{"--roles", "control,identity"},
		Env: append(env[:2:2], fmt.Sprintf("CARDEA_BUS_URL=bus://localhost:%d", portBus+first.Offset)),
	}
	// Both at once on an empty database.
	one, two := must[*Process](t)(Launch(first)), must[*Process](t)(Launch(second))
	t.Cleanup(one.Kill)
	t.Cleanup(two.Kill)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("first:\n%s\nsecond:\n%s", one.Output(), two.Output())
		}
	})
	ok(t, one.Ready(t.Context()))
	ok(t, two.Ready(t.Context()))
	at1, at2 := admin(t, one), admin(t, two)

	var in struct{ Token, Control string }
	ok(t, at1.Must(t.Context(), http.StatusCreated, http.MethodPost, "/api/cardea/v1/nodes/tokens", map[string]any{"roles": []string{"gateway"}}, &in))
	controls := fmt.Sprintf("%s,https://localhost:%d", in.Control, portSync+two.Offset)
	gw := node(t, Node{Args: []string{"--roles", "gateway", "--name", "gw-one", "--join", in.Token, "--control", controls}})

	apis := 0
	// publish writes on one process, reads on the other, and proves the receipt.
	publish := func(t *testing.T, write, read *Client) {
		t.Helper()
		apis++
		name := fmt.Sprintf("Side%d", apis)
		api := must[string](t)(write.Import(t.Context(), openAPI(name, backend.URL)))
		if read != nil {
			var got struct{ Name string }
			ok(t, read.Must(t.Context(), http.StatusOK, http.MethodGet, Publisher+"/apis/"+api, nil, &got))
			if got.Name != name {
				t.Errorf("the other process answers %q", got.Name)
			}
		}
		_, a, err := write.Deploy(t.Context(), api)
		ok(t, err)
		if r := receiptOf(t, a); !r.complete || r.acked != 1 {
			t.Errorf("receipt %+v, want one gateway, complete", r)
		}
		ok(t, write.Must(t.Context(), http.StatusOK, http.MethodPost, Publisher+"/apis/change-lifecycle?action=Publish&apiId="+api, nil, nil))
		if !reachable(t.Context(), gw.Gateway()+"/"+strings.ToLower(name)+"/1.0.0/a") {
			t.Errorf("%s is not callable when the answer arrives", name)
		}
	}
	eventually(t, 10*time.Second, "the gateway is current", func(ctx context.Context) bool { return current(ctx, at2, "gw-one") })
	for range 3 {
		publish(t, at1, at2)
		publish(t, at2, at1)
	}

	t.Run("a process with another master key is refused", func(t *testing.T) {
		out := refused(t, Node{Home: filepath.Join(t.TempDir(), "third"), Args: []string{"--roles", "control,identity"}, Env: []string{env[0], "CARDEA_MASTER_KEY=" + strings.Repeat("77", 32)}})
		if !strings.Contains(out, "another master key") {
			t.Errorf("the refusal does not say why:\n%s", out)
		}
	})

	for _, round := range []struct {
		name          string
		victim, other **Process
		at            *Client // the survivor
	}{
		{"the first is killed", &one, &two, at2},
		{"the second is killed", &two, &one, at1},
	} {
		whole := t // what restarts here outlives the round
		t.Run(round.name, func(t *testing.T) {
			(*round.victim).Kill()
			began := time.Now()
			eventually(t, 10*time.Second, "the other one has taken over", func(ctx context.Context) bool {
				// Needs the relay's lease and the gateway's stream.
				a, err := round.at.Do(ctx, http.MethodPost, Devportal+"/applications", map[string]any{
					"name": fmt.Sprint("probe-", time.Now().UnixNano()), "throttlingPolicy": "Unlimited",
				})
				return err == nil && a.Status == http.StatusCreated && strings.Contains(a.Header.Get("Cardea-Receipt"), "complete=true; gateways=1/1")
			})
			t.Logf("taken over after %v", time.Since(began).Round(time.Millisecond))
			publish(t, round.at, nil)
			*round.victim = restart(whole, *round.victim)
			eventually(t, 10*time.Second, "the gateway is current", func(ctx context.Context) bool { return current(ctx, round.at, "gw-one") })
		})
	}
	publish(t, at1, at2)
	publish(t, at2, at1)
}
