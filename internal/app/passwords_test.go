package app

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/bus"
	"github.com/cardea-apim/cardea/internal/gateway/auth"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/internal/seal"
	"github.com/cardea-apim/cardea/internal/store"
)

// Gateways with and without the directory get the same answers, and the bus
// never carries a password in clear.
func TestPasswordsAreCheckedHereAndOverTheBus(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	ctx, stop := context.WithCancel(apim.WithActor(t.Context(), &apim.Actor{User: "system", Tenant: apim.SuperTenant, System: true}))
	defer stop()
	db, err := store.Open(ctx, "sqlite:"+filepath.Join(t.TempDir(), "db"), store.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	b, err := bus.Embedded(bus.Options{Name: "n", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	box, err := seal.New(seal.NewMasterKey())
	if err != nil {
		t.Fatal(err)
	}
	a := &App{db: db, bus: b, box: box, log: log, people: &people{}}
	if a.people.directory, err = openDirectory(db, nil); err != nil {
		t.Fatal(err)
	}
	if err := a.people.directory.Bootstrap(ctx, identity.BootstrapOptions{AdminUser: "admin", AdminRole: "admin", AdminPassword: "s3cret-word"}); err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 64)
	if _, err := b.Subscribe(">", func(_ string, data []byte) { seen <- string(data) }); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.answerPasswords(ctx) }()
	far := remotePersons{b, box}
	from := netip.MustParseAddr("192.0.2.1")
	ready := time.Now().Add(5 * time.Second)
	for {
		if _, err := far.Person(ctx, "admin", "s3cret-word", from); !errors.Is(err, bus.ErrNobody) || time.Now().After(ready) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	for name, d := range map[string]auth.Directory{"here": a.personsOf(), "over the bus": far} {
		p, err := d.Person(ctx, "admin@carbon.super", "s3cret-word", from)
		if err != nil || p.Name != "admin" || p.Tenant != "carbon.super" || p.ID == "" || !slices.Contains(p.Roles, "Internal/everyone") {
			t.Errorf("%s: %+v %v", name, p, err)
		}
		if _, err := d.Person(ctx, "admin", "wrong", from); !errors.Is(err, auth.ErrPassword) {
			t.Errorf("%s: wrong password: %v", name, err)
		}
	}
	other, err := seal.New(seal.NewMasterKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (remotePersons{b, other}).Person(ctx, "admin", "s3cret-word", from); err == nil || errors.Is(err, auth.ErrPassword) {
		t.Errorf("a node with another master key: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for {
		select {
		case s := <-seen:
			if len(s) > 0 && (s[0] == '{' || slices.Contains([]string{"s3cret-word"}, s)) {
				t.Errorf("on the bus in clear: %s", s)
			}
			continue
		default:
		}
		break
	}
}
