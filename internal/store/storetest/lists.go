package storetest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/store"
)

func names(p apim.Page[apim.API]) string {
	var out []string
	for _, a := range p.Items {
		out = append(out, a.Name)
	}
	return strings.Join(out, " ")
}

func lists(t *testing.T, db *store.DB) {
	ctx := as(t)
	for i, name := range []string{"beta", "Alpha", "gamma", "Ümlaut", "100%_sure"} {
		a := api(i)
		a.Name, a.Provider, a.Default = name, []string{"alice", "Bob"}[i%2], i == 2
		a.Plans = []string{"Gold", "Unlimited"}[i%2 : i%2+1]
		if i == 3 {
			a.State, a.Description = apim.Published, "Contains ÄPFEL and 50%"
		}
		must(t, db.APIs.Create(ctx, inHome, a))
	}
	must(t, db.APIs.Create(ctx, inOther, api(9)))
	q := func(col string, op apim.Op, v any) apim.Query {
		return apim.Query{Where: []apim.Cond{{Col: col, Op: op, Value: v}}, Sort: "name"}
	}
	any2 := apim.Query{Sort: "name", Any: [][]apim.Cond{
		{{Col: "name", Op: apim.Contains, Value: "a"}, {Col: "description", Op: apim.Contains, Value: "äpfel"}},
		{{Col: "provider", Op: apim.Eq, Value: "Bob"}},
	}}
	for name, c := range map[string]struct {
		q    apim.Query
		want string
	}{
		"newest first":                    {apim.Query{}, "100%_sure Ümlaut gamma Alpha beta"},
		"sorted, ignoring case":           {apim.Query{Sort: "name"}, "100%_sure Alpha beta gamma Ümlaut"},
		"descending":                      {apim.Query{Sort: "name", Desc: true}, "Ümlaut gamma beta Alpha 100%_sure"},
		"oldest first":                    {apim.Query{Sort: "created"}, "beta Alpha gamma Ümlaut 100%_sure"},
		"a page":                          {apim.Query{Sort: "name", Offset: 1, Limit: 2}, "Alpha beta"},
		"a page past the end":             {apim.Query{Sort: "name", Offset: 10, Limit: 2}, ""},
		"an offset without limit":         {apim.Query{Sort: "name", Offset: 3}, "gamma Ümlaut"},
		"equal":                           {q("name", apim.Eq, "Alpha"), "Alpha"},
		"equal minds case":                {q("name", apim.Eq, "alpha"), ""},
		"equal, folded":                   {q("name", apim.EqFold, "üMLAUT"), "Ümlaut"},
		"name_folded takes any case":      {q("name_folded", apim.Eq, "ALPHA"), "Alpha"},
		"unequal":                         {q("provider", apim.Ne, "alice"), "Alpha Ümlaut"},
		"contains":                        {q("name", apim.Contains, "A"), "Alpha beta gamma Ümlaut"},
		"contains takes % and _ as texts": {q("name", apim.Contains, "%_"), "100%_sure"},
		"contains, unfolded column":       {q("state", apim.Contains, "publ"), "Ümlaut"},
		"contains in a list":              {q("tag", apim.Contains, "FOO"), "100%_sure Alpha beta gamma Ümlaut"},
		"has":                             {q("tag", apim.Has, "t0"), "beta Ümlaut"},
		"has takes whole elements":        {q("tag", apim.Has, "t"), ""},
		"has a business plan":             {q("plan", apim.Has, "Unlimited"), "Alpha Ümlaut"},
		"an operation has the policy":     {q("op_policy", apim.Has, "10KPerMin"), "100%_sure Alpha beta gamma Ümlaut"},
		"one of":                          {q("name", apim.OneOf, []string{"beta", "gamma", "nope"}), "beta gamma"},
		"one of none":                     {q("name", apim.OneOf, []string{}), ""},
		"one of typed":                    {q("state", apim.OneOf, []apim.State{apim.Published}), "Ümlaut"},
		"one of, in a list":               {q("tag", apim.OneOf, []string{"t1", "t2"}), "100%_sure Alpha gamma"},
		"a truth value":                   {q("default", apim.Eq, true), "gamma"},
		"greater":                         {q("created", apim.Gt, time.Now().Add(time.Hour)), ""},
		"less":                            {q("created", apim.Lt, time.Now().Add(time.Hour)), "100%_sure Alpha beta gamma Ümlaut"},
		"any of a group, and another":     {any2, "Alpha Ümlaut"},
		"two conditions":                  {apim.Where("provider", "Bob").And("state", apim.Published), "Ümlaut"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := db.APIs.List(ctx, inHome, c.q)
			must(t, err)
			want(t, "page", names(p), c.want)
			unpaged := c.q
			unpaged.Offset, unpaged.Limit = 0, 0
			every, err := db.APIs.List(ctx, inHome, unpaged)
			must(t, err)
			want(t, "total", p.Total, len(every.Items))
			n, err := db.APIs.Count(ctx, inHome, c.q)
			must(t, err)
			want(t, "count", n, len(every.Items))
		})
	}
	first, err := db.APIs.First(ctx, inHome, apim.Query{Sort: "name"})
	must(t, err)
	want(t, "first", first.Name, "100%_sure")
	_, err = db.APIs.First(ctx, inHome, apim.Where("name", "nope"))
	wantFault(t, err, fault.Missing, "")

	t.Run("pages neither repeat nor skip", func(t *testing.T) {
		seen := map[apim.APIID]bool{}
		for off := 0; off < 6; off += 2 {
			p, err := db.APIs.List(ctx, all, apim.Query{Sort: "version", Offset: off, Limit: 2})
			must(t, err)
			want(t, "total", p.Total, 6)
			for _, a := range p.Items {
				seen[a.ID] = true
			}
		}
		want(t, "different APIs", len(seen), 6)
	})
}

func hostile(t *testing.T, db *store.DB) {
	ctx := as(t)
	must(t, db.APIs.Create(ctx, inHome, api(1)))
	many := make([]string, 20_001)
	for name, q := range map[string]apim.Query{
		"an unknown column":         apim.Where("nope", "x"),
		"SQL as a column":           apim.Where(`id" = '' OR 1=1 --`, "x"),
		"SQL as a comparison":       {Where: []apim.Cond{{Col: "name", Op: "= '' OR 1=1 --", Value: "x"}}},
		"sorted by SQL":             {Sort: "name; DROP TABLE apis"},
		"sorted by a list":          {Sort: "tag"},
		"a number for a text":       apim.Where("name", 5),
		"a text for a number":       apim.Where("default", "x"),
		"has on a text":             {Where: []apim.Cond{{Col: "name", Op: apim.Has, Value: "x"}}},
		"equal on a list":           apim.Where("tag", "food"),
		"one of what is no list":    {Where: []apim.Cond{{Col: "name", Op: apim.OneOf, Value: "x"}}},
		"one of too many":           {Where: []apim.Cond{{Col: "name", Op: apim.OneOf, Value: many}}},
		"a negative offset":         {Offset: -1},
		"a negative limit":          {Limit: -1},
		"contains on a truth value": {Where: []apim.Cond{{Col: "default", Op: apim.Contains, Value: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := db.APIs.List(ctx, inHome, q)
			wantFault(t, err, fault.BadRequest, "")
		})
	}
	for _, value := range []string{`' OR '1'='1`, "x\x00y", "\xff\xfe", "$1", "%", strings.Repeat("z", 100_000)} {
		for _, op := range []apim.Op{apim.Eq, apim.Contains, apim.EqFold} {
			p, err := db.APIs.List(ctx, inHome, apim.Query{Where: []apim.Cond{{Col: "name", Op: op, Value: value}}})
			must(t, err)
			want(t, fmt.Sprintf("hits of %.10q", value), p.Total, 0)
		}
	}
	n, err := db.APIs.Count(ctx, inHome, apim.Query{})
	must(t, err)
	want(t, "APIs left", n, 1)
}

func values(t *testing.T, db *store.DB) {
	ctx := as(t)
	a := api(1)
	a.Name, a.Description = "nul\x00 and \xff", "<a href=\"x\">é\u2028😀</a>"
	a.Tags = []string{"with\x1funit", "", "ü"}
	a.Categories = []string{}
	a.Endpoint = json.RawMessage(`{"url":"https://a.example/?a=1&b=<2>","n":12345678901234567890}`)
	a.CORS = &apim.CORS{Origins: []string{"*"}}
	a.Operations[0].Policies = json.RawMessage(`{"request":[]}`)
	must(t, db.APIs.Create(ctx, inHome, a))
	got, err := db.APIs.Get(ctx, inHome, a.ID)
	must(t, err)
	if string(got.Endpoint) != string(a.Endpoint) {
		t.Errorf("endpoint = %s, want %s", got.Endpoint, a.Endpoint)
	}
	if got.MaxTPS != nil || got.Operations[1].Policies != nil {
		t.Errorf("an absent document came back as %q and %q", got.MaxTPS, got.Operations[1].Policies)
	}
	if got.Categories == nil || got.VisibleRoles != nil {
		t.Errorf("empty and absent lists came back as %v and %v", got.Categories == nil, got.VisibleRoles == nil)
	}
	if got.Description != a.Description || !reflect.DeepEqual(got.Tags, a.Tags) {
		t.Errorf("texts came back as %q %q", got.Description, got.Tags)
	}
	if got.CreatedAt.Location() != time.UTC || !got.CreatedAt.Equal(a.CreatedAt) {
		t.Errorf("created at %v, want %v", got.CreatedAt, a.CreatedAt)
	}
	got.Endpoint = json.RawMessage(`{"broken`)
	if err := db.APIs.Update(ctx, inHome, got); err == nil {
		t.Error("a broken document was stored")
	}
	want(t, "rev after a refused update", got.Rev, 1)
}
