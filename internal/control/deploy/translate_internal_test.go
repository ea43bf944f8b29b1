package deploy

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/seal"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

func testBox(t testing.TB) *seal.Box {
	t.Helper()
	b, err := seal.New(seal.NewMasterKey())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLimits(t *testing.T) {
	count := func(n int64, unit string, times int) apim.Limit {
		return apim.Limit{Type: "REQUESTCOUNTLIMIT", Count: n, TimeUnit: unit, UnitTime: times}
	}
	for name, c := range map[string]struct {
		in   apim.Limit
		want snapshot.Limit
	}{
		"per minute":            {count(50, "min", 1), snapshot.Limit{Count: 50, Window: time.Minute}},
		"per 5 seconds, plural": {count(5, "SECONDS", 5), snapshot.Limit{Count: 5, Window: 5 * time.Second}},
		"per hour":              {count(5, "hour", 1), snapshot.Limit{Count: 5, Window: time.Hour}},
		"per 2 days":            {count(5, "days", 2), snapshot.Limit{Count: 5, Window: 48 * time.Hour}},
		"per day, singular":     {count(5, "day", 1), snapshot.Limit{Count: 5, Window: 24 * time.Hour}},
		"per month":             {count(5, "months", 1), snapshot.Limit{Count: 5, Window: 720 * time.Hour}},
		"unknown unit":          {count(5, "fortnight", 1), snapshot.Limit{Count: 5, Window: time.Minute}},
		"no unit time":          {count(5, "min", 0), snapshot.Limit{Count: 5, Window: time.Minute}},
		"the unlimited count":   {count(apim.Unlimited, "min", 1), snapshot.Limit{Unlimited: true}},
		"no count":              {count(0, "min", 1), snapshot.Limit{Unlimited: true}},
		"bandwidth in KB":       {apim.Limit{Type: "BANDWIDTHLIMIT", Data: 3, DataUnit: "KB", TimeUnit: "min", UnitTime: 1}, snapshot.Limit{Bytes: 3072, Window: time.Minute}},
		"bandwidth in MB":       {apim.Limit{Type: "BANDWIDTHLIMIT", Data: 2, DataUnit: "MB", TimeUnit: "hour", UnitTime: 1}, snapshot.Limit{Bytes: 2 << 20, Window: time.Hour}},
		"events":                {apim.Limit{Type: "EVENTCOUNTLIMIT", Count: 9, TimeUnit: "days", UnitTime: 1}, snapshot.Limit{Count: 9, Window: day}},
		"AI requests":           {apim.Limit{Type: "AIAPIQUOTALIMIT", AI: json.RawMessage(`{"requestCount":4,"timeUnit":"hour","unitTime":2}`)}, snapshot.Limit{Count: 4, Window: 2 * time.Hour}},
	} {
		if got := limitOf(c.in); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestPolicies(t *testing.T) {
	meta := apim.Meta{Tenant: "carbon.super"}
	limit := apim.Limit{Type: "REQUESTCOUNTLIMIT", Count: 10, TimeUnit: "min", UnitTime: 1}
	want := snapshot.Limit{Count: 10, Window: time.Minute}
	for name, c := range map[string]struct {
		in   apim.ThrottlePolicy
		key  string
		want snapshot.Policy
	}{
		"business plan that bills what is over": {
			apim.ThrottlePolicy{Meta: meta, Level: apim.SubLevel, Name: "Gold", Limit: limit, BurstCount: 5, BurstUnit: "sec"},
			"subpol/carbon.super/Gold",
			snapshot.Policy{Tenant: "carbon.super", Name: "Gold", Limit: want, BurstCount: 5, BurstUnit: "sec"},
		},
		"no burst": {
			apim.ThrottlePolicy{Meta: meta, Level: apim.SubLevel, Name: "Gold", Limit: limit, BurstCount: -1, BurstUnit: "NA", StopOnQuota: true},
			"subpol/carbon.super/Gold",
			snapshot.Policy{Tenant: "carbon.super", Name: "Gold", Limit: want, StopOnQuota: true},
		},
		"an application policy always stops": {
			apim.ThrottlePolicy{Meta: meta, Level: apim.AppLevel, Name: "10PerMin", Limit: limit},
			"apppol/carbon.super/10PerMin",
			snapshot.Policy{Tenant: "carbon.super", Name: "10PerMin", Limit: want, StopOnQuota: true},
		},
		"conditions": {
			apim.ThrottlePolicy{Meta: meta, Level: apim.APILevel, Name: "c", Limit: limit, PerUser: true, Groups: json.RawMessage(`[{"description":"d","conditions":[
				{"type":"IPCONDITION","invertCondition":true,"ipCondition":{"ipConditionType":"IPSPECIFIC","specificIP":"192.0.2.1"}},
				{"type":"IPCONDITION","ipCondition":{"ipConditionType":"IPRANGE","startingIP":"192.0.2.1","endingIP":"192.0.2.9"}},
				{"type":"HEADERCONDITION","headerCondition":{"headerName":"x","headerValue":"y"}},
				{"type":"QUERYPARAMETERCONDITION","queryParameterCondition":{"parameterName":"p","parameterValue":"v"}},
				{"type":"JWTCLAIMSCONDITION","jwtClaimsCondition":{"claimUrl":"u","attribute":"a"}}],
				"limit":{"type":"BANDWIDTHLIMIT","bandwidth":{"dataAmount":1,"dataUnit":"KB","timeUnit":"hour","unitTime":1}}}]`)},
			"apipol/carbon.super/c",
			snapshot.Policy{Tenant: "carbon.super", Name: "c", Limit: want, StopOnQuota: true, PerUser: true, Groups: []snapshot.ConditionGroup{{
				Conditions: []snapshot.Condition{
					{Type: "IP", Value: "192.0.2.1", Invert: true},
					{Type: "IPRANGE", Value: "192.0.2.1", To: "192.0.2.9"},
					{Type: "HEADER", Name: "x", Value: "y"},
					{Type: "QUERY", Name: "p", Value: "v"},
					{Type: "CLAIM", Name: "u", Value: "a"},
				}, Limit: snapshot.Limit{Bytes: 1024, Window: time.Hour},
			}}},
		},
	} {
		it, err := policyItem(&c.in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got snapshot.Policy
		if err := json.Unmarshal(it.Body, &got); err != nil {
			t.Fatal(err)
		}
		if it.Key.String() != c.key || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %s %+v, want %s %+v", name, it.Key, got, c.key, c.want)
		}
	}
	if _, err := policyItem(&apim.ThrottlePolicy{Level: apim.APILevel, Groups: json.RawMessage(`[{"conditions":[{"type":"X"}]}]`)}); !errors.Is(err, errUntranslatable) {
		t.Errorf("a condition without content: %v", err)
	}
}

func TestContexts(t *testing.T) {
	for name, c := range map[string]struct {
		api         apim.API
		full, alias string
	}{
		"version at the end":          {apim.API{Context: "/pizza", ContextTemplate: "/pizza/{version}", Version: "1.0"}, "/pizza/1.0", "/pizza"},
		"no template":                 {apim.API{Context: "/pizza", Version: "1.0"}, "/pizza/1.0", "/pizza"},
		"version in front":            {apim.API{Context: "/{version}/pizza", ContextTemplate: "/{version}/pizza", Version: "1.0"}, "/1.0/pizza", "/pizza"},
		"version in the middle":       {apim.API{ContextTemplate: "/api/{version}/x", Version: "v2"}, "/api/v2/x", "/api/x"},
		"ends like the version":       {apim.API{ContextTemplate: "/pizza/1.0/{version}", Version: "1.0"}, "/pizza/1.0/1.0", "/pizza/1.0"},
		"nothing left for an alias":   {apim.API{ContextTemplate: "/{version}", Version: "1.0"}, "/1.0", ""},
		"tenant, prefix stored":       {apim.API{Meta: apim.Meta{Tenant: "a.com"}, ContextTemplate: "/t/a.com/pizza/{version}", Version: "1"}, "/t/a.com/pizza/1", "/t/a.com/pizza"},
		"tenant, prefix not stored":   {apim.API{Meta: apim.Meta{Tenant: "a.com"}, ContextTemplate: "/pizza/{version}", Version: "1"}, "/t/a.com/pizza/1", "/t/a.com/pizza"},
		"tenant, nothing left":        {apim.API{Meta: apim.Meta{Tenant: "a.com"}, ContextTemplate: "/{version}", Version: "1"}, "/t/a.com/1", ""},
		"super tenant has no prefix":  {apim.API{Meta: apim.Meta{Tenant: apim.SuperTenant}, ContextTemplate: "/p/{version}", Version: "1"}, "/p/1", "/p"},
		"tenant whose name is prefix": {apim.API{Meta: apim.Meta{Tenant: "a"}, ContextTemplate: "/t/ab/{version}", Version: "1"}, "/t/a/t/ab/1", "/t/a/t/ab"},
	} {
		if full, alias := contexts(&c.api); full != c.full || alias != c.alias {
			t.Errorf("%s: %q %q, want %q %q", name, full, alias, c.full, c.alias)
		}
	}
}

func TestSecuritySchemes(t *testing.T) {
	for name, c := range map[string]struct {
		schemes []string
		want    snapshot.Security
	}{
		"none is not open":      {nil, snapshot.Security{OAuth2: true, AppMandatory: true}},
		"the default":           {[]string{"oauth_basic_auth_api_key_mandatory", "oauth2"}, snapshot.Security{OAuth2: true, AppMandatory: true}},
		"flag implied":          {[]string{"api_key", "basic_auth"}, snapshot.Security{APIKey: true, Basic: true, AppMandatory: true}},
		"mutual TLS alone":      {[]string{"mutualssl"}, snapshot.Security{MutualTLS: true, MutualTLSMandatory: true}},
		"mutual TLS optional":   {[]string{"mutualssl", "oauth2", "oauth_basic_auth_api_key_mandatory"}, snapshot.Security{MutualTLS: true, OAuth2: true, AppMandatory: true}},
		"both mandatory":        {[]string{"mutualssl", "mutualssl_mandatory", "oauth2", "oauth_basic_auth_api_key_mandatory"}, snapshot.Security{MutualTLS: true, MutualTLSMandatory: true, OAuth2: true, AppMandatory: true}},
		"either of the two":     {[]string{"mutualssl", "oauth2"}, snapshot.Security{MutualTLS: true, OAuth2: true}},
		"mandatory but missing": {[]string{"mutualssl_mandatory", "oauth2"}, snapshot.Security{OAuth2: true, AppMandatory: true}},
	} {
		if got := securityOf(&apim.API{Security: c.schemes}); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	for plans, want := range map[string]bool{"DefaultSubscriptionless": true, "Gold": false, "": false} {
		a := &apim.API{}
		if plans != "" {
			a.Plans = []string{plans}
		}
		if got := securityOf(a).Subscriptionless; got != want {
			t.Errorf("plans %q: subscriptionless %v", plans, got)
		}
	}
}

func TestEndpoints(t *testing.T) {
	box := testBox(t)
	e := func(u string) snapshot.Endpoint { return snapshot.Endpoint{URL: u} }
	for name, c := range map[string]struct {
		in   string
		want endpoints
	}{
		"absent":          {``, endpoints{}},
		"null":            {`null`, endpoints{}},
		"http":            {`{"endpoint_type":"http","production_endpoints":{"url":"http://p"},"sandbox_endpoints":{"url":"http://s"}}`, endpoints{production: []snapshot.Endpoint{e("http://p")}, sandbox: []snapshot.Endpoint{e("http://s")}}},
		"one side only":   {`{"endpoint_type":"http","production_endpoints":{"url":"http://p","config":""},"sandbox_endpoints":{"url":""}}`, endpoints{production: []snapshot.Endpoint{e("http://p")}}},
		"dynamic":         {`{"endpoint_type":"default","production_endpoints":{"url":"default"}}`, endpoints{}},
		"load balanced":   {`{"endpoint_type":"load_balance","production_endpoints":[{"url":"http://a"},{"url":"http://b"}],"failOver":"True"}`, endpoints{mode: "load_balance", production: []snapshot.Endpoint{e("http://a"), e("http://b")}}},
		"failover":        {`{"endpoint_type":"failover","production_endpoints":{"url":"http://a"},"production_failovers":[{"url":"http://b"},{"url":"http://c"}],"failOver":true}`, endpoints{mode: "failover", production: []snapshot.Endpoint{e("http://a"), e("http://b"), e("http://c")}}},
		"url in a string": {`{"endpoint_type":"http","production_endpoints":"http://p"}`, endpoints{production: []snapshot.Endpoint{e("http://p")}}},
		"settings in strings": {`{"endpoint_type":"http","production_endpoints":{"url":"http://p","config":{"actionDuration":"30000","actionSelect":"discard","suspendDuration":"1000","suspendMaxDuration":"60000","factor":"2.5","retryDelay":"20","retryTimeOut":"3","suspendErrorCode":["101504"]}}}`, endpoints{production: []snapshot.Endpoint{{
			URL: "http://p", Timeout: 30 * time.Second, OnTimeout: "discard", Suspend: time.Second, SuspendMax: time.Minute, SuspendFactor: 2.5, RetryDelay: 20 * time.Millisecond, Retries: 3,
		}}}},
		"settings in numbers": {`{"endpoint_type":"http","production_endpoints":{"url":"http://p","config":{"actionDuration":5,"actionSelect":"fault","factor":1,"retryTimeOut":-4}}}`, endpoints{production: []snapshot.Endpoint{{
			URL: "http://p", Timeout: 5 * time.Millisecond, OnTimeout: "fault", SuspendFactor: 1,
		}}}},
	} {
		got, err := parseEndpoints(json.RawMessage(c.in), box)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, c.want)
		}
	}
	for name, in := range map[string]string{
		"not an object":       `[1]`,
		"a number that is no": `{"endpoint_type":"http","production_endpoints":{"url":"http://p","config":{"actionDuration":"soon"}}}`,
		"another master key":  `{"endpoint_type":"http","production_endpoints":{"url":"http://p"},"endpoint_security":{"production":{"enabled":true,"type":"BASIC","password":"` + testBox(t).Seal([]byte("x")) + `"}}}`,
	} {
		if _, err := parseEndpoints(json.RawMessage(in), box); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestEndpointCredentialsTravelSealed(t *testing.T) {
	box := testBox(t)
	config := func() json.RawMessage { // a fresh nonce each time
		return json.RawMessage(`{"endpoint_type":"http","production_endpoints":{"url":"http://p"},"sandbox_endpoints":{"url":"http://s"},"endpoint_security":{
			"production":{"enabled":true,"type":"basic","username":"u","password":"` + box.Seal([]byte("pa:ss")) + `"},
			"sandbox":{"enabled":"true","type":"OAUTH","grantType":"CLIENT_CREDENTIALS","tokenUrl":"http://t","clientId":"c","clientSecret":"` + box.Seal([]byte("shh")) + `","customParameters":{}}}}`)
	}
	got, err := parseEndpoints(config(), box)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parseEndpoints(config(), box)
	if err != nil || !reflect.DeepEqual(got, again) {
		t.Error("the same credentials give another item")
	}
	read := func(s string) (out snapshot.EndpointSecurity) {
		plain, err := box.Open(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(plain, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if p := read(got.production[0].Sealed); p.Type != "BASIC" || p.Username != "u" || p.Password != "pa:ss" {
		t.Errorf("production: %+v", p)
	}
	s := read(got.sandbox[0].Sealed)
	var extra map[string]any
	if err := json.Unmarshal(s.Extra, &extra); err != nil {
		t.Fatal(err)
	}
	if s.Type != "OAUTH" || extra["clientSecret"] != "shh" || extra["tokenUrl"] != "http://t" {
		t.Errorf("sandbox: %+v %v", s, extra)
	}
	off, err := parseEndpoints(json.RawMessage(`{"endpoint_type":"http","production_endpoints":{"url":"http://p"},"endpoint_security":{"production":{"enabled":false,"type":"BASIC","password":"x"}}}`), box)
	if err != nil || off.production[0].Sealed != "" {
		t.Errorf("security that is switched off: %+v, %v", off, err)
	}
}

func TestAPIItem(t *testing.T) {
	work := &apim.API{Meta: apim.Meta{Tenant: "carbon.super"}, ID: "a1", State: apim.Published, Name: "Pizza", APIPolicy: "changed since"}
	rev := &apim.Revision{ID: "r2", Number: 2, Copy: apim.API{
		Meta: apim.Meta{Tenant: "carbon.super"}, ID: "a1", Name: "Pizza", Version: "1.0", Context: "/pizza", ContextTemplate: "/pizza/{version}",
		Provider: "admin", Type: "HTTP", State: apim.Created, Transports: []string{"https"}, Plans: []string{"Gold"}, Audiences: []string{"x"},
		AuthHeader: "X-Auth", CORS: &apim.CORS{Enabled: true, Origins: []string{"*"}, Headers: []string{}, Methods: []string{"GET"}},
		Endpoint: json.RawMessage(`{"endpoint_type":"http","production_endpoints":{"url":"http://p"}}`),
		MaxTPS:   json.RawMessage(`{"production":"100","productionTimeUnit":"MINUTE","sandbox":-1}`),
		Scopes:   []apim.APIScope{{Name: "order", Roles: []string{"cook"}}}, Properties: []apim.Property{{Name: "k", Value: "v"}},
		Operations: []apim.Operation{
			{Target: "/menu", Verb: "get", Auth: "None", Policy: "Unlimited"},
			{Target: "/order/{id}", Verb: "POST", Auth: "Application & Application User", Policy: "10KPerMin", Scopes: []string{"order"}},
			{Target: "/*", Verb: "PUT", Auth: "Application User"},
		},
	}}
	d := &apim.Deployment{API: "a1", Revision: "r2", Environment: "Default"}
	it, err := apiItem(work, rev, d, nil, true, testBox(t))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"id":"a1","revision":"r2","revisionNo":2,"tenant":"carbon.super","name":"Pizza","version":"1.0","provider":"admin","type":"HTTP","state":"PUBLISHED",` +
		`"context":"/pizza/1.0","baseContext":"/pizza","default":true,"defaultContext":"/pizza","transports":["https"],` +
		`"security":{"oauth2":true,"appMandatory":true,"authHeader":"X-Auth"},"policies":["Gold"],"audiences":["x"],"keyManagers":["all"],` +
		`"cors":{"enabled":true,"origins":["*"],"credentials":false,"headers":[],"methods":["GET"]},"production":[{"url":"http://p"}],` +
		`"maxTps":{"production":100,"productionUnit":"MINUTE"},"operations":[{"t":"/menu","v":"GET","a":"None"},` +
		`{"t":"/order/{id}","v":"POST","a":"Any","p":"10KPerMin","s":["order"]},{"t":"/*","v":"PUT","a":"Application User"}],` +
		`"scopeRoles":{"order":["cook"]},"properties":{"k":"v"}}`
	if string(it.Body) != want || it.Key.String() != "api/a1@Default" {
		t.Errorf("%s\n got %s\nwant %s", it.Key, it.Body, want)
	}
	rev.Copy.APIPolicy = "50KPerMin"
	if it, err = apiItem(work, rev, d, []string{"gw.example.com"}, false, testBox(t)); err != nil {
		t.Fatal(err)
	}
	var a snapshot.API
	if err := json.Unmarshal(it.Body, &a); err != nil {
		t.Fatal(err)
	}
	if a.APIPolicy != "50KPerMin" || a.Operations[1].Policy != "" || a.Default || a.DefaultContext != "" || len(a.VHosts) != 1 {
		t.Errorf("an API-level policy leaves operations theirs, or: %+v", a)
	}
}

func TestForeignKeyManagers(t *testing.T) {
	set, u, err := foreignKeys(&apim.KeyManager{Certificates: json.RawMessage(`{"type":"JWKS","value":"https://idp/jwks"}`)})
	if err != nil || u != "https://idp/jwks" || set != nil {
		t.Errorf("JWKS: %s %q %v", set, u, err)
	}
	if _, _, err = foreignKeys(&apim.KeyManager{Certificates: json.RawMessage(`{"type":"PEM","value":"!!"}`)}); err == nil {
		t.Error("nonsense is taken for a certificate")
	}
	if _, u, err = foreignKeys(&apim.KeyManager{JWKSURL: "https://idp/keys"}); err != nil || u != "https://idp/keys" {
		t.Errorf("URL: %q %v", u, err)
	}
}
