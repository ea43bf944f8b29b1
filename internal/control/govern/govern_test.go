package govern

import (
	"encoding/json"
	"testing"

	"github.com/cardea-apim/cardea/internal/apim"
)

func TestDefaultPolicies(t *testing.T) {
	t.Parallel()
	type want struct {
		count       int64
		unit        string
		subscribers int
	}
	for key, w := range map[string]want{
		"application/50PerMin": {50, "min", 0}, "application/Unlimited": {apim.Unlimited, "min", 0}, "api/10KPerMin": {10000, "min", 0},
		"subscription/Gold": {5000, "min", 0}, "subscription/Unauthenticated": {500, "min", 0}, "subscription/DefaultSubscriptionless": {10000, "min", 0},
		"subscription/AsyncSilver": {25000, "days", 0}, "subscription/AsyncWHGold": {10000, "months", 1000}, "subscription/AsyncWHBronze": {1000, "months", 100},
	} {
		found := false
		for _, p := range Defaults() {
			if string(p.Level)+"/"+p.Name != key {
				continue
			}
			found = true
			if p.Limit.Count != w.count || p.Limit.TimeUnit != w.unit || p.SubscriberCount != w.subscribers || !p.StopOnQuota || !p.Deployed || p.BillingPlan != "FREE" {
				t.Errorf("%s: %+v", key, p)
			}
			if p.Hidden != (p.Name == "Unauthenticated") {
				t.Errorf("%s: hidden %v", key, p.Hidden)
			}
		}
		if !found {
			t.Errorf("%s is missing", key)
		}
	}
	seen := map[string]bool{}
	for _, p := range Defaults() {
		k := string(p.Level) + "/" + p.Name
		if seen[k] {
			t.Errorf("%s twice", k)
		}
		seen[k] = true
		if p.Limit.AI != nil && !json.Valid(p.Limit.AI) {
			t.Errorf("%s: quota is not JSON", k)
		}
		if err := checkPolicy(p); err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}
}

func TestObjectKeepsOrderAndBytes(t *testing.T) {
	t.Parallel()
	o, err := parseObject([]byte(`{"z": 1.50, "a": {"y":1,"x":2}, "m": []}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := o.set("m", "new"); err != nil {
		t.Fatal(err)
	}
	if err := o.set("b", 2); err != nil {
		t.Fatal(err)
	}
	got, err := o.MarshalJSON()
	if want := `{"z":1.50,"a":{"y":1,"x":2},"m":"new","b":2}`; err != nil || string(got) != want {
		t.Errorf("%s, want %s (%v)", got, want, err)
	}
	for _, bad := range []string{``, `[]`, `{"a"}`, `{"a":`, `null`} {
		if _, err := parseObject([]byte(bad)); err == nil {
			t.Errorf("%q was read as an object", bad)
		}
	}
}
