package e2e

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// joinGateway starts a process with the gateway role alone that follows p.
func joinGateway(t *testing.T, c *Client, name string) *Process {
	t.Helper()
	var in struct{ Token, Control string }
	ok(t, c.Must(t.Context(), http.StatusCreated, http.MethodPost, "/api/cardea/v1/nodes/tokens", map[string]any{"roles": []string{"gateway"}}, &in))
	return node(t, Node{Home: filepath.Join(t.TempDir(), name), Args: []string{
		"--roles", "gateway", "--name", name, "--join", in.Token, "--control", in.Control,
	}})
}

// receipt is what the Cardea-Receipt header says.
type receipt struct {
	complete      bool
	acked, waited int
	late          []string
	version       string
}

var receiptForm = regexp.MustCompile(`^version=(\S+); complete=(true|false); gateways=(\d+)/(\d+); elapsed=\d+ms(?:; late="([^"]*)")?$`)

func receiptOf(t *testing.T, a *Answer) receipt {
	t.Helper()
	h := a.Header.Get("Cardea-Receipt")
	m := receiptForm.FindStringSubmatch(h)
	if m == nil {
		t.Fatalf("receipt %q of answer %d has another form", h, a.Status)
	}
	r := receipt{version: m[1], complete: m[2] == "true"}
	r.acked, _ = strconv.Atoi(m[3]) // digits by the expression
	r.waited, _ = strconv.Atoi(m[4])
	if m[5] != "" {
		r.late = strings.Split(m[5], ",")
	}
	return r
}

const tinyDefinition = `{"openapi": "3.0.1", "info": {"title": "Tiny", "version": "1"}, "paths": {"/a": {"get": {"summary": "A", "responses": {"200": {"description": "ok"}}}}, "/b/{id}": {"post": {"responses": {"200": {"description": "ok"}}}}}}`

// open is an API without security, for tests of distribution alone.
func openAPI(name, backend string) NewAPI {
	doc := strings.ReplaceAll(tinyDefinition, `"get": {`, `"get": {"x-auth-type": "None", `)
	return NewAPI{Definition: []byte(doc), Name: name, Version: "1.0.0", Context: "/" + strings.ToLower(name), Backend: backend}
}

func reachable(ctx context.Context, target string) bool {
	a, err := Call(ctx, http.MethodGet, target, "", nil)
	return err == nil && a.Status == http.StatusOK
}

func TestReceiptsNameEveryGateway(t *testing.T) {
	backend := NewBackend()
	defer backend.Close()
	control := node(t, Node{Args: []string{"--roles", "control,identity,traffic,analytics"}})
	c := admin(t, control)
	one, two := joinGateway(t, c, "gw-one"), joinGateway(t, c, "gw-two")

	api := must[string](t)(c.Import(t.Context(), openAPI("Receipts", backend.URL)))
	ok(t, c.Publish(t.Context(), api))
	for _, gw := range []*Process{one, two} {
		if !reachable(t.Context(), gw.Gateway()+"/receipts/1.0.0/a") {
			t.Fatal("a published API is not callable on a gateway when the answer arrives")
		}
	}

	t.Run("both acknowledge", func(t *testing.T) {
		_, a, err := c.Deploy(t.Context(), api)
		ok(t, err)
		r := receiptOf(t, a)
		if !r.complete || r.acked != 2 || r.waited != 2 {
			t.Fatalf("receipt %+v, want two gateways, complete", r)
		}
	})

	t.Run("a stopped gateway is named as late", func(t *testing.T) {
		ok(t, two.Pause())
		began := time.Now()
		_, a, err := c.Deploy(t.Context(), api)
		took := time.Since(began)
		ok(t, two.Resume())
		ok(t, err)
		r := receiptOf(t, a)
		if r.complete || r.acked != 1 || !slices.Equal(r.late, []string{"gw-two"}) {
			t.Errorf("receipt %+v, want gw-two late and the other one acknowledged", r)
		}
		if took > 6*time.Second {
			t.Errorf("the answer took %v; a receipt waits two seconds at most", took)
		}
		eventually(t, 10*time.Second, "the resumed gateway catches up", func(ctx context.Context) bool {
			return current(ctx, c, "gw-two")
		})
	})

	t.Run("a late joiner gets everything", func(t *testing.T) {
		three := joinGateway(t, c, "gw-three")
		if !reachable(t.Context(), three.Gateway()+"/receipts/1.0.0/a") {
			t.Error("a gateway that is ready does not serve what was published before it joined")
		}
		_, a, err := c.Deploy(t.Context(), api)
		ok(t, err)
		if r := receiptOf(t, a); !r.complete || r.acked != 3 {
			t.Errorf("receipt %+v, want three gateways, complete", r)
		}
		three.Kill()
	})

	t.Run("gateways serve while the control process is dead, and after their own restart", func(t *testing.T) {
		control.Kill()
		if !reachable(t.Context(), one.Gateway()+"/receipts/1.0.0/a") {
			t.Fatal("the gateway does not serve without its control process")
		}
		ok(t, one.Stop())
		again := must[*Process](t)(Start(t.Context(), Node{Home: one.Home, Offset: one.Offset, Args: []string{"--roles", "gateway"}}))
		defer again.Kill()
		if !reachable(t.Context(), again.Gateway()+"/receipts/1.0.0/a") {
			t.Error("the gateway does not serve from its own disk after a restart")
		}

		back := must[*Process](t)(Start(t.Context(), control.Node))
		defer back.Kill()
		eventually(t, 15*time.Second, "both gateways follow the control process again", func(ctx context.Context) bool {
			return current(ctx, c, "gw-one") && current(ctx, c, "gw-two")
		})
		other := must[string](t)(c.Import(t.Context(), openAPI("Afterwards", backend.URL)))
		ok(t, c.Publish(t.Context(), other))
		for _, gw := range []*Process{again, two} {
			// Its lease before the restart may have been taken for one after it.
			eventually(t, 20*time.Second, "a change made after the restart is on a gateway", func(ctx context.Context) bool {
				return reachable(ctx, gw.Gateway()+"/afterwards/1.0.0/a")
			})
		}
	})
}

// current asks whether a gateway serves the newest version.
func current(ctx context.Context, c *Client, name string) bool {
	var list struct {
		Nodes []struct {
			Name, State string
			Current     bool
		}
	}
	if err := c.Must(ctx, http.StatusOK, http.MethodGet, "/api/cardea/v1/nodes", nil, &list); err != nil {
		return false
	}
	for _, n := range list.Nodes {
		if n.Name == name {
			return n.Current && n.State == "serving"
		}
	}
	return false
}

// A change that was committed when the control process died is delivered by the
// next one, and an answered one was never lost.
func TestControlKilledBetweenCommitAndRelay(t *testing.T) {
	backend := NewBackend()
	defer backend.Close()
	control := node(t, Node{Args: []string{"--roles", "control,identity,traffic,analytics"}})
	c := admin(t, control)
	gw := joinGateway(t, c, "gw-one")
	api := must[string](t)(c.Import(t.Context(), openAPI("Killed", backend.URL)))
	ok(t, c.Publish(t.Context(), api))

	for round := range 3 {
		// Retiring undeploys; the kill comes while the change is on its way.
		doc := openAPI("Round"+string(rune('A'+round)), backend.URL)
		next := must[string](t)(c.Import(t.Context(), doc))
		var rev struct{ ID string }
		ok(t, c.Must(t.Context(), http.StatusCreated, http.MethodPost, Publisher+"/apis/"+next+"/revisions", map[string]string{"description": "x"}, &rev))
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = c.Do(t.Context(), http.MethodPost, Publisher+"/apis/"+next+"/deploy-revision?revisionId="+rev.ID,
				[]map[string]any{{"name": "Default", "vhost": "localhost", "displayOnDevportal": true}}) // the kill may cut it off
		}()
		time.Sleep(time.Duration(1+round*3) * time.Millisecond)
		control.Kill()
		<-sent
		control = must[*Process](t)(Start(t.Context(), control.Node))
		t.Cleanup(control.Kill)
		var deployed struct{ Count int }
		ok(t, c.Must(t.Context(), http.StatusOK, http.MethodGet, Publisher+"/apis/"+next+"/revisions?query=deployed:true", nil, &deployed))
		eventually(t, 15*time.Second, "the gateway follows again", func(ctx context.Context) bool { return current(ctx, c, "gw-one") })
		// A deployed but unpublished API answers 401 or 403 without an internal key, an unknown one 404.
		eventually(t, 10*time.Second, fmt.Sprintf("round %d: what is stored (%d deployments) is what the gateway knows", round, deployed.Count), func(ctx context.Context) bool {
			a, err := Call(ctx, http.MethodPost, gw.Gateway()+doc.Context+"/1.0.0/b/1", "", nil)
			return err == nil && (a.Status != http.StatusNotFound) == (deployed.Count == 1)
		})
	}
	if !reachable(t.Context(), gw.Gateway()+"/killed/1.0.0/a") {
		t.Error("the API published first is gone")
	}
}

// A removed node hears and says nothing any more, and its name is free.
func TestRemovedNode(t *testing.T) {
	t.Parallel()
	backend := NewBackend()
	defer backend.Close()
	control := node(t, Node{Args: []string{"--roles", "control,identity,traffic,analytics"}})
	c := admin(t, control)
	bad, good := joinGateway(t, c, "gw-bad"), joinGateway(t, c, "gw-good")
	before := must[string](t)(c.Import(t.Context(), openAPI("Before", backend.URL)))
	ok(t, c.Publish(t.Context(), before))
	calls := func() uint64 {
		t.Helper()
		var sums struct{ Requests uint64 }
		ok(t, c.Must(t.Context(), http.StatusOK, http.MethodGet, "/api/cardea/v1/analytics/totals?api="+before, nil, &sums))
		return sums.Requests
	}
	if !reachable(t.Context(), bad.Gateway()+"/before/1.0.0/a") {
		t.Fatal("the gateway does not serve before it is removed")
	}
	eventually(t, 20*time.Second, "its call is counted", func(context.Context) bool { return calls() == 1 })

	env := []string{"CARDEA_USER=admin", "CARDEA_PASSWORD=admin", "CARDEA_SERVER=" + control.Management(), "CARDEA_HOME=" + control.Home}
	out, code := command(t, env, "nodes", "remove", "gw-bad")
	if code != 0 || !strings.Contains(out, "removed gw-bad") {
		t.Fatalf("exit code %d: %s", code, out)
	}
	if out, code := command(t, env, "nodes", "remove", "gw-bad"); code != 1 || !strings.Contains(out, "no node gw-bad has joined") {
		t.Errorf("a second time: exit code %d: %s", code, out)
	}
	if out, _ := command(t, env, "nodes"); strings.Contains(out, "gw-bad") || !strings.Contains(out, "gw-good") {
		t.Errorf("nodes: %s", out)
	}
	after := must[string](t)(c.Import(t.Context(), openAPI("After", backend.URL)))
	ok(t, c.Publish(t.Context(), after))
	if !reachable(t.Context(), good.Gateway()+"/after/1.0.0/a") {
		t.Error("the other gateway does not follow any more")
	}
	for range 3 {
		if !reachable(t.Context(), bad.Gateway()+"/before/1.0.0/a") {
			t.Error("the removed gateway does not serve what it knew")
		}
	}
	if !reachable(t.Context(), good.Gateway()+"/before/1.0.0/a") {
		t.Error("the other gateway does not serve")
	}
	eventually(t, 20*time.Second, "the call of the other gateway is counted", func(context.Context) bool { return calls() >= 2 })
	time.Sleep(time.Second)
	if n := calls(); n != 2 {
		t.Errorf("%d calls are counted, want 2: the removed gateway reports", n)
	}
	if reachable(t.Context(), bad.Gateway()+"/after/1.0.0/a") {
		t.Error("the removed gateway heard of a new API")
	}
	ok(t, bad.Stop())
	if out := refused(t, bad.Node); !strings.Contains(out, "was removed") {
		t.Errorf("a later start does not say why it is refused:\n%s", out)
	}
	again := joinGateway(t, c, "gw-bad")
	if !reachable(t.Context(), again.Gateway()+"/after/1.0.0/a") {
		t.Error("a node that joined anew does not serve")
	}
}
