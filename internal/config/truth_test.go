package config

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// sample is how a key changes the configuration: the settings it needs beside
// it, and settings with the key in them.
type sample struct{ beside, with string }

const (
	pg     = "[cardea]\ndatabase.url = \"postgres://u:p@h/n\"\n"
	apimPG = "[database.apim_db]\nurl = \"jdbc:postgresql://h/n\"\n"
	byPart = "[database.apim_db]\ntype = \"postgre\"\nhostname = \"h\"\nname = \"n\"\nusername = \"u\"\n"
	shared = "[database.shared_db]\ntype = \"postgre\"\nhostname = \"h\"\nname = \"n\"\nusername = \"u\"\n"
	p12    = "[keystore.%s]\nfile_name = \"own.p12\"\n"
	pemTLS = "[keystore.%s]\nfile_name = \"own.pem\"\n"
	env    = "[[apim.gateway.environment]]\nname = \"E\"\nhttps_endpoint = \"https://e:1\"\n"
	vhosts = env + "[[apim.gateway.environment.virtual_host]]\nhttps_endpoint = \"https://v:1\"\n"
)

// samples of keys for which one value of the right type says nothing.
func samples() map[string]sample {
	m := map[string]sample{
		"cardea.roles":                            {"", "[cardea]\nroles = \"gateway\"\n"},
		"cardea.master_key":                       {"", "[cardea]\nmaster_key = \"" + strings.Repeat("ab", 32) + "\"\n"},
		"cardea.database.url":                     {"", pg},
		"cardea.node.control":                     {"", "[cardea]\nnode.control = \"https://c:9444\"\n"},
		"cardea.audit.keep":                       {"", "[cardea]\naudit.keep = \"9d\"\n"},
		"cardea.log.level":                        {"", "[cardea]\nlog.level = \"debug\"\n"},
		"cardea.log.format":                       {"", "[cardea]\nlog.format = \"json\"\n"},
		"cardea.certificate.key_file":             {"[cardea]\ncertificate.file = \"own.pem\"\n", "certificate.key_file = \"own.key\"\n"},
		"cardea.certificate.file":                 {"", "[cardea]\ncertificate.file = \"own.pem\"\n"},
		"cardea.certificate.hosts":                {"", "[cardea]\ncertificate.hosts = \"own\"\n"},
		"cardea.trusted_proxies":                  {"", "[cardea]\ntrusted_proxies = [\"10.0.0.0/8\"]\n"},
		"cardea.fetch.allow":                      {"", "[cardea]\nfetch.allow = [\"10.0.0.0/8\"]\n"},
		"server.server_role":                      {"", "[server]\nserver_role = \"gateway-worker\"\n"},
		"super_admin.password":                    {"", "[super_admin]\npassword = \"x\"\n"},
		"encryption.key":                          {"", "[encryption]\nkey = \"" + strings.Repeat("cd", 32) + "\"\n"},
		"apim.event_hub.service_url":              {"[server]\nserver_role = \"gateway-worker\"\n", "[apim.event_hub]\nservice_url = \"https://c:9443/services/\"\n"},
		"truststore.file_name":                    {"", "[truststore]\nfile_name = \"own.p12\"\n"},
		"truststore.type":                         {"[truststore]\nfile_name = \"own.p12\"\n", "type = \"JKS\"\n"},
		"truststore.password":                     {"[truststore]\nfile_name = \"own.p12\"\n", "password = \"x\"\n"},
		"database.apim_db.pool_options.maxActive": {apimPG, "pool_options.maxActive = 7\n"},
		"apim.gateway.environment.properties.**":  {env, "[apim.gateway.environment.properties]\na = \"b\"\n"},
	}
	for part, v := range map[string]string{"hostname": `"other"`, "name": `"other"`, "username": `"other"`, "port": "7"} {
		m["database.apim_db."+part] = sample{strings.ReplaceAll(byPart, "\n"+part+" = ", "\n#"), part + " = " + v + "\n"}
		m["database.shared_db."+part] = sample{strings.ReplaceAll(shared, "\n"+part+" = ", "\n#"), part + " = " + v + "\n"}
	}
	for table, base := range map[string]string{"apim_db": byPart, "shared_db": shared} {
		m["database."+table+".password"] = sample{base, "password = \"x\"\n"}
		m["database."+table+".type"] = sample{"", "[database." + table + "]\ntype = \"postgre\"\n"}
		m["database."+table+".url"] = sample{"", "[database." + table + "]\nurl = \"jdbc:postgresql://h/n\"\n"}
	}
	for _, store := range []string{"primary", "tls"} {
		base := fmt.Sprintf(p12, store)
		m["keystore."+store+".file_name"] = sample{"", base}
		m["keystore."+store+".type"] = sample{base, "type = \"JKS\"\n"}
		m["keystore."+store+".key_file"] = sample{fmt.Sprintf(pemTLS, store), "key_file = \"own.key\"\n"}
		for _, k := range []string{"password", "alias", "key_password"} {
			m["keystore."+store+"."+k] = sample{base, k + " = \"x\"\n"}
		}
	}
	m["apim.gateway.environment.name"] = sample{"", "[[apim.gateway.environment]]\nname = \"F\"\n"}
	m["apim.gateway.environment.type"] = sample{env, "type = \"sandbox\"\n"}
	m["apim.gateway.environment.visibility"] = sample{env, "visibility = [\"r\"]\n"}
	m["apim.gateway.environment.display_in_api_console"] = sample{env, "display_in_api_console = false\n"}
	for _, k := range []string{"gateway_type", "provider", "display_name", "description"} {
		m["apim.gateway.environment."+k] = sample{env, k + " = \"x\"\n"}
	}
	m["apim.gateway.environment.https_endpoint"] = sample{"", env}
	m["apim.gateway.environment.virtual_host.https_endpoint"] = sample{env, strings.TrimPrefix(vhosts, env)}
	for _, k := range []string{"http_endpoint", "ws_endpoint", "wss_endpoint", "websub_event_receiver_http_endpoint", "websub_event_receiver_https_endpoint"} {
		m["apim.gateway.environment."+k] = sample{env, k + " = \"http://e:7\"\n"}
		m["apim.gateway.environment.virtual_host."+k] = sample{vhosts, k + " = \"http://v:7\"\n"}
	}
	for _, k := range []string{
		"transport.https.properties.protocols", "transport.https.sslHostConfig.properties.protocols",
		"transport.passthru_https.listener.parameters.HttpsProtocols", "transport.http.listener.secured_protocols",
	} {
		m[k] = of(k, `"TLSv1.3"`)
	}
	for _, k := range []string{"transport.http.listener.verify_client", "transport.passthru_https.listener.parameters.SSLVerifyClient", "keystore.listener_profile.ssl_verify_client"} {
		m[k] = of(k, `"require"`)
	}
	for _, k := range []string{
		"cardea.listen", "cardea.node.listen", "keystore.listener_profile.bind_address", "transport.http.listener.bind_address", "transport.http.listener.secured_bind_address",
		"transport.passthru_http.listener.parameters.bind-address", "transport.passthru_https.listener.parameters.bind-address",
	} {
		m[k] = of(k, `"192.0.2.1"`)
	}
	m["transport.passthru_https.sender.parameters.HostnameVerifier"] = of("transport.passthru_https.sender.parameters.HostnameVerifier", `"Strict"`)
	m["oauth.oidc.id_token.signature_algorithm"] = of("oauth.oidc.id_token.signature_algorithm", `"ES256"`)
	m["oauth.timestamp_skew"] = of("oauth.timestamp_skew", "7")
	m["transport.https.properties.maxHttpHeaderSize"] = of("transport.https.properties.maxHttpHeaderSize", "16384")
	return m
}

// of sets one key.
func of(key, value string) sample {
	i := strings.LastIndexByte(key, '.')
	return sample{"", "[" + key[:i] + "]\n" + key[i+1:] + " = " + value + "\n"}
}

// values are what a type is tried with; one of them is not the default.
func values(typ string) []string {
	switch {
	case typ == "b":
		return []string{"true", "false"}
	case typ == "i":
		return []string{"7"}
	case typ == "l":
		return []string{`["x", "y"]`}
	case strings.HasPrefix(typ, "d:"):
		return []string{`"77s"`}
	}
	return []string{`"x"`}
}

// Every key that is said to have an effect changes the configuration or is refused.
func TestEveryKeyInForceHasAnEffect(t *testing.T) {
	home := t.TempDir()
	for _, f := range []string{"own.p12", "own.pem", "own.key"} {
		if err := os.WriteFile(filepath.Join(home, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	loaded := func(text string) (*Config, error) {
		file := filepath.Join(home, "t.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(Source{Home: home, File: file})
		if c != nil {
			c.Warnings = nil
		}
		return c, err
	}
	special := samples()
	seen := map[string]bool{}
	for _, r := range theCatalogue().rows {
		key := strings.Join(r.pattern, ".")
		if !slices.Contains([]reading{same, mapped, ours}, r.reading) {
			continue
		}
		seen[key] = true
		tries := []sample{special[key]}
		if special[key].with == "" {
			tries = nil
			for _, v := range values(r.typ) {
				tries = append(tries, of(key, v))
			}
		}
		effect := false
		for _, s := range tries {
			before, err := loaded(s.beside)
			if err != nil {
				t.Errorf("%s: what stands beside it: %v", key, err)
				continue
			}
			after, err := loaded(s.beside + s.with)
			if err != nil && !strings.Contains(err.Error(), key) {
				t.Errorf("%s: %v", key, err)
			}
			effect = effect || err != nil || !reflect.DeepEqual(before, after)
		}
		if !effect {
			t.Errorf("%s is %s, but changes nothing", key, r.reading)
		}
	}
	for key := range special {
		if !seen[key] {
			t.Errorf("sample for %s, which is not in force", key)
		}
	}
}

// Every field of the configuration is read by the rest of the program.
func TestEveryFieldIsReadElsewhere(t *testing.T) {
	used := map[string]bool{}
	for _, dir := range []string{"../app", "../cli", "../../cmd"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					used[s.Sel.Name] = true
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// These are read by methods of this package that others call.
	for _, name := range []string{"BaseURL"} {
		used[name] = true
	}
	var walk func(path string, typ reflect.Type)
	walk = func(path string, typ reflect.Type) {
		if typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || typ.PkgPath() != reflect.TypeFor[Config]().PkgPath() {
			return
		}
		for f := range fieldsOf(typ) {
			if !used[f.Name] {
				t.Errorf("nobody reads %s.%s", path, f.Name)
			}
			walk(path+"."+f.Name, f.Type)
		}
	}
	walk("Config", reflect.TypeFor[Config]())
}

func fieldsOf(typ reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range typ.NumField() {
			if !yield(typ.Field(i)) {
				return
			}
		}
	}
}

func TestKeysWithoutEffectAreListedTogether(t *testing.T) {
	tests := map[string]struct {
		toml string
		env  []string
		want []string
	}{
		"by section": {
			toml: "[apim.jwt]\nenable = true\nheader = \"X-A\"\n[output_adapter.email]\nport = 25\n[clustering]\nmembers = \"a\"\n",
			want: []string{"have no part here and are ignored: clustering.members", "have no effect: apim.jwt.{enable, header}, output_adapter.email.port"},
		},
		"a value that asks for nothing": {toml: "[apim.jwt]\nenable = false\nheader = \"X-JWT-Assertion\"\n[user_store]\ntype = \"database_unique_id\"\n"},
		"in the environment":            {env: []string{"CARDEA_APIM_JWT_ENABLE=true"}, want: []string{"have no effect: CARDEA_APIM_JWT_ENABLE"}},
		"another user store":            {toml: "[user_store]\ntype = \"read_only_ldap\"\n", want: []string{"have no effect: user_store.type"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := mustLoad(t, tt.toml, func(s *Source) { s.Env = tt.env })
			if len(c.Warnings) != len(tt.want) {
				t.Fatalf("warnings = %q", c.Warnings)
			}
			for i, w := range tt.want {
				if !strings.HasSuffix(c.Warnings[i], w) {
					t.Errorf("warning = %q\nwant it to end in %q", c.Warnings[i], w)
				}
			}
		})
	}
}

// The environment and flags reach every kind of value.
func TestOverrides(t *testing.T) {
	file := "[apim.cors]\nallow_origins = [\"a\"]\nenable = true\n[apim.cache]\ntoken_expiry_time = 60\n"
	c := mustLoad(t, file, func(s *Source) {
		s.Env = []string{
			"CARDEA_APIM_CORS_ALLOW_ORIGINS=b,c", "CARDEA_APIM_CORS_ENABLE=false", "CARDEA_APIM_CACHE_TOKEN_EXPIRY_TIME=15m",
			"CARDEA_TRANSPORT_HTTP_LISTENER_SECURED_PORT=7000", "CARDEA_SUPER_ADMIN_PASSWORD=s", "CARDEA_NODE_HOSTS=x,y",
		}
		s.Set = map[string]string{"server.offset": "1"}
	})
	if !slices.Equal(c.CORS.Origins, []string{"b", "c"}) || c.CORS.Enabled || c.TokenCacheTTL.Minutes() != 15 ||
		c.Listen.GatewayHTTPS != 7001 || c.Admin.Password.Reveal() != "s" || !slices.Equal(c.Node.Hosts, []string{"x", "y"}) {
		t.Errorf("%+v", c)
	}
	if _, err := load(t, "", func(s *Source) { s.Env = []string{"CARDEA_SERVER_OFFSET=many"} }); err == nil || !strings.Contains(err.Error(), "environment CARDEA_SERVER_OFFSET") {
		t.Errorf("error = %v, want it to name the variable", err)
	}
}
