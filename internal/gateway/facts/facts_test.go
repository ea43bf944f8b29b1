package facts

import (
	"maps"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/token"
)

// A table must agree with a plain map after any edits, and one taken before an
// edit must not see it.
func TestTableAgreesWithAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table Table[int, int]
		model := map[int]int{}
		for range rapid.IntRange(1, 10).Draw(t, "edits") {
			before, was := table, maps.Clone(model)
			e := Begin(table)
			for range rapid.IntRange(0, 20).Draw(t, "changes") {
				k, v := rapid.IntRange(0, 30).Draw(t, "k"), rapid.Int().Draw(t, "v")
				if rapid.Bool().Draw(t, "delete") {
					e.Delete(k)
					delete(model, k)
				} else {
					e.Set(k, v)
					model[k] = v
				}
			}
			table = e.Done()
			for _, c := range []struct {
				table Table[int, int]
				model map[int]int
			}{{table, model}, {before, was}} {
				got := map[int]int{}
				c.table.Each(func(k, v int) bool { got[k] = v; return true })
				if !maps.Equal(got, c.model) || c.table.Len() != len(c.model) {
					t.Fatalf("table has %v (%d), want %v", got, c.table.Len(), c.model)
				}
				for k := range 31 {
					v, ok := c.table.Get(k)
					if w, has := c.model[k]; v != w || ok != has {
						t.Fatalf("%d: %d %v, want %d %v", k, v, ok, w, has)
					}
				}
			}
		}
	})
}

func TestAddressConditions(t *testing.T) {
	for _, c := range []struct {
		condition snapshot.Condition
		address   string
		want      bool
	}{
		{snapshot.Condition{Type: "IP", Value: "1.2.3.4"}, "1.2.3.4", true},
		{snapshot.Condition{Type: "IP", Value: "1.2.3.4"}, "1.2.3.5", false},
		{snapshot.Condition{Type: "IP", Value: "1.2.3.4", Invert: true}, "1.2.3.5", true},
		{snapshot.Condition{Type: "IP", Value: "2001:db8::/32"}, "2001:db8::7", true},
		{snapshot.Condition{Type: "IPRANGE", Value: "1.0.0.1", To: "1.0.0.9"}, "1.0.0.1", true},
		{snapshot.Condition{Type: "IPRANGE", Value: "1.0.0.1", To: "1.0.0.9"}, "1.0.0.9", true},
		{snapshot.Condition{Type: "IPRANGE", Value: "1.0.0.1", To: "1.0.0.9"}, "1.0.0.10", false},
		{snapshot.Condition{Type: "IPRANGE", Value: "1.0.0.1", To: "1.0.0.9"}, "::1", false},
		{snapshot.Condition{Type: "IPRANGE", Value: "2001:db8::1", To: "2001:db8::ff"}, "2001:db8::80", true},
	} {
		k, err := newCondition(c.condition)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := k.Address(netip.MustParseAddr(c.address)); got != c.want || !ok {
			t.Errorf("%+v with %s: %v %v, want %v", c.condition, c.address, got, ok, c.want)
		}
	}
}

func TestRevocations(t *testing.T) {
	at := time.Unix(1000, 0)
	e := (&Facts{}).Change(true)
	for id, r := range map[string]snapshot.Revocation{
		"jti/one":    {JTI: "one"},
		"sub/alice":  {Entity: "alice", NotBefore: at},
		"sub/client": {Entity: "client", NotBefore: at},
	} {
		it, err := snapshot.Make(snapshot.Key{Kind: snapshot.KindRevocation, ID: id}, r)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Apply(&it); err != nil {
			t.Fatal(err)
		}
	}
	f := e.Done()
	for _, c := range []struct {
		name     string
		jti      string
		issued   time.Time
		entities []string
		want     bool
	}{
		{"by id", "one", at.Add(time.Hour), nil, true},
		{"other id", "two", at.Add(-time.Hour), []string{"bob", ""}, false},
		{"user, issued before", "two", at.Add(-time.Second), []string{"bob", "alice"}, true},
		{"user, issued after", "two", at, []string{"alice"}, false},
		{"client, issued before", "two", at.Add(-time.Second), []string{"client"}, true},
		{"without a time of issue", "two", time.Time{}, []string{"alice"}, true},
	} {
		if got := f.Revoked(&token.Claims{ID: c.jti, IssuedAt: c.issued}, c.entities...); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
