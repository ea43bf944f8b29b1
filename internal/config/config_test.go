package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func load(t *testing.T, toml string, mod ...func(*Source)) (*Config, error) {
	t.Helper()
	src := Source{Home: t.TempDir()}
	if toml != "" {
		src.File = filepath.Join(src.Home, "deployment.toml")
		if err := os.WriteFile(src.File, []byte(toml), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range mod {
		m(&src)
	}
	return Load(src)
}

func mustLoad(t *testing.T, toml string, mod ...func(*Source)) *Config {
	t.Helper()
	c, err := load(t, toml, mod...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEmptyConfigurationRunsEverythingOnLoopback(t *testing.T) {
	c := mustLoad(t, "")
	if !slices.Equal(c.Roles, []Role{Analytics, Control, Gateway, Identity, Traffic}) {
		t.Errorf("roles = %v", c.Roles)
	}
	if !c.Loopback() || c.Admin.Explicit || c.Listen.Management != 9443 || c.Listen.GatewayHTTP != 8280 {
		t.Errorf("listen = %+v, explicit admin = %v", c.Listen, c.Admin.Explicit)
	}
	if c.BaseURL != "https://localhost:9443" || !strings.HasSuffix(string(c.Database.URL), "cardea.db") {
		t.Errorf("base URL = %s, database = %s", c.BaseURL, string(c.Database.URL))
	}
	if len(c.Warnings) != 0 {
		t.Errorf("warnings = %v", c.Warnings)
	}
}

func TestMistakes(t *testing.T) {
	tests := map[string]struct{ toml, want string }{
		"typing error in a closed section": {"[server]\nhostnme = \"x\"\n", `deployment.toml:2: unknown key server.hostnme; did you mean server.hostname?`},
		"deep key":                         {"[apim.cors]\n\nallow_origin = \"*\"\n", `deployment.toml:3: unknown key apim.cors.allow_origin; did you mean apim.cors.allow_origins?`},
		"dotted key":                       {"[apim]\ncors.enabel = true\n", `deployment.toml:2: unknown key apim.cors.enabel; did you mean apim.cors.enable?`},
		"inline table":                     {"[database]\napim_db = {type = \"h2\", usernam = \"x\"}\n", `deployment.toml:2: unknown key database.apim_db.usernam`},
		"unknown section":                  {"[serverr]\nx = 1\n", "deployment.toml:2: unknown key serverr.x"},
		"element of an array of tables":    {"[[apim.gateway.environment]]\nname=\"a\"\n[[apim.gateway.environment]]\nnaem=\"b\"\n", "deployment.toml:4: unknown key apim.gateway.environment.naem"},
		"outside of a section":             {"hostname = \"x\"\n", "deployment.toml:1: key \"hostname\" stands outside of a section"},
		"not a number":                     {"[server]\noffset = \"many\"\n", "deployment.toml:2: server.offset: want a whole number"},
		"not a bool":                       {"[apim.cors]\nenable = \"maybe\"\n", "deployment.toml:2: apim.cors.enable: want true or false"},
		"not a duration":                   {"[apim.cache]\ntoken_expiry_time = \"soon\"\n", "deployment.toml:2: apim.cache.token_expiry_time: want a duration"},
		"syntax":                           {"[server]\nhostname = \n", "deployment.toml:2:"},
		"key twice":                        {"[server]\noffset = 1\noffset = 2\n", "deployment.toml:3"},
		"environment variable missing":     {"[server]\nhostname = \"$env{NO_SUCH}\"\n", "deployment.toml:2: server.hostname: environment variable NO_SUCH is not set"},
		"reference cycle":                  {"[server]\nhostname = \"$ref{server.base_path}\"\nbase_path = \"$ref{server.hostname}\"\n", "refers to itself"},
		"foreign database":                 {"[database.apim_db]\ntype = \"mysql\"\n", "deployment.toml:2: database.apim_db: mysql is not supported; use PostgreSQL"},
		"foreign database by url":          {"[database.apim_db]\nurl = \"jdbc:oracle:thin:@h:1521/x\"\n", "oracle is not supported"},
		"two databases":                    {"[database.apim_db]\nurl=\"jdbc:postgresql://a/x\"\n[database.shared_db]\nurl=\"jdbc:postgresql://b/y\"\n", "deployment.toml:4: database.shared_db: everything is kept in one database"},
		"stream role":                      {"[cardea]\nroles = \"stream\"\n", "the stream role is not part of this version"},
		"unknown role":                     {"[server]\nserver_role = \"boss\"\n", "unknown role \"boss\""},
		"class that decides credentials":   {"[oauth.grant_type.password]\ngrant_handler = \"com.acme.Own\"\n", "cannot be run"},
		"master key":                       {"[cardea]\nmaster_key = \"abc\"\n", "deployment.toml:2: cardea.master_key: want 32 bytes"},
		"port out of range":                {"[server]\noffset = 50000\n[transport.https.properties]\nport = 20000\n", "deployment.toml:4: transport.https.properties.port"},
		"hash":                             {"[apim.hashing]\nhashing_algorithm = \"MD5\"\n", "only SHA-256"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, tt.toml)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error = %v\nwant it to contain %q", err, tt.want)
			}
		})
	}
}

func TestAllMistakesAreReportedAtOnce(t *testing.T) {
	_, err := load(t, "[server]\nhostnme = 1\noffset = \"x\"\n[apim.cors]\nenabel = 2\n")
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Fatalf("error = %v, want three lines", err)
	}
}

func TestThousandsOfMistakesAreCounted(t *testing.T) {
	_, err := load(t, "[server]\n"+strings.Join(numbered(5000), ""))
	if err == nil || strings.Count(err.Error(), "\n") != maxMistakes || !strings.Contains(err.Error(), "and 4900 more mistakes") {
		t.Fatalf("error = %.200v", err)
	}
}

func numbered(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = "y" + strconv.Itoa(i) + " = 1\n"
	}
	return out
}

func TestAFileWithoutEndIsNotRead(t *testing.T) {
	if _, err := Load(Source{Home: t.TempDir(), File: "/dev/zero"}); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Fatalf("error = %v", err)
	}
}

func TestAccepted(t *testing.T) {
	tests := map[string]struct {
		toml string
		ok   func(*Config) bool
	}{
		"text as number":               {"[server]\noffset = \"3\"\n", func(c *Config) bool { return c.Listen.Management == 9446 && c.Listen.GatewayHTTPS == 8246 }},
		"text as bool":                 {"[apim.cors]\nenable = \"false\"\n", func(c *Config) bool { return !c.CORS.Enabled }},
		"comma list":                   {"[apim.cors]\nallow_methods = \"GET, PUT\"\n", func(c *Config) bool { return slices.Equal(c.CORS.Methods, []string{"GET", "PUT"}) }},
		"list":                         {"[apim.cors]\nallow_methods = [\"GET\",\n \"PUT\"]\n", func(c *Config) bool { return slices.Equal(c.CORS.Methods, []string{"GET", "PUT"}) }},
		"bare seconds":                 {"[apim.cache]\ntoken_expiry_time = 15\n", func(c *Config) bool { return c.TokenCacheTTL == 15*time.Second }},
		"duration with unit":           {"[apim.cache]\ntoken_expiry_time = \"15m\"\n", func(c *Config) bool { return c.TokenCacheTTL == 15*time.Minute }},
		"bare milliseconds":            {"[transport.http]\nsocket_timeout = 1000\n", func(c *Config) bool { return c.SocketTimeout == time.Second }},
		"older spelling":               {"[apim.cache.km_token]\nexpiry_time = \"20s\"\n", func(c *Config) bool { return c.TokenCacheTTL == 20*time.Second }},
		"quoted dotted key":            {"[passthru_http]\n'http.socket.timeout' = \"90s\"\n", func(c *Config) bool { return c.SocketTimeout == 90*time.Second }},
		"older port spelling":          {"[transport.passthru_https.listener.parameters]\nport = 7243\n", func(c *Config) bool { return c.Listen.GatewayHTTPS == 7243 }},
		"profile":                      {"[server]\nserver_role = \"gateway-worker\"\n", func(c *Config) bool { return slices.Equal(c.Roles, []Role{Gateway}) }},
		"shipped keystore":             {"[keystore.tls]\nfile_name = \"wso2carbon.jks\"\ntype = \"JKS\"\n", func(c *Config) bool { return c.Certificate.File == "" }},
		"reference to a default":       {"[server]\nhostname = \"api.example\"\nbase_path = \"https://$ref{server.hostname}:${mgt.transport.https.port}\"\noffset = 1\n", func(c *Config) bool { return c.BaseURL == "https://api.example:9444" }},
		"secret":                       {"[super_admin]\nusername = \"root\"\npassword = \"$secret{pw}\"\n[secrets]\npw = \"[s3cret]\"\n", func(c *Config) bool { return c.Admin.Password.Reveal() == "s3cret" && c.Admin.Explicit }},
		"unknown value of a known key": {"[apim.devportal]\napplication_sharing_type = \"fv-7-8-marker\"\n", func(c *Config) bool { return true }},
		"postgres by jdbc": {"[database.apim_db]\ntype = \"postgre\"\nurl = \"jdbc:postgresql://db:5433/apim?sslmode=require\"\nusername = \"u\"\npassword = \"p w\"\n", func(c *Config) bool {
			return string(c.Database.URL) == "postgres://u:p%20w@db:5433/apim?sslmode=require"
		}},
		"postgres by parts": {"[database.apim_db]\ntype = \"postgre\"\nhostname = \"h\"\nname = \"n\"\nusername = \"u\"\npassword = \"p\"\n", func(c *Config) bool { return string(c.Database.URL) == "postgres://u:p@h:5432/n" }},
		"h2":                {"[database.shared_db]\ntype = \"h2\"\nurl = \"jdbc:h2:./repository/database/WSO2SHARED_DB;DB_CLOSE_ON_EXIT=FALSE\"\nusername = \"wso2carbon\"\npool_options.maxActive = \"100\"\n", func(c *Config) bool { return !c.Database.Postgres }},
		"environments": {"[[apim.gateway.environment]]\nname = \"A\"\nhttps_endpoint = \"https://a:8243\"\n[[apim.gateway.environment.virtual_host]]\nhttps_endpoint = \"https://b:8243\"\n[apim.gateway.environment.properties]\nx = \"1\"\n[[apim.gateway.environment]]\nname = \"B\"\ntype = \"sandbox\"\n", func(c *Config) bool {
			return len(c.Environments) == 2 && c.Environments[0].VHosts[1].Host == "b" && c.Environments[0].VHosts[0].HTTPS == 8243 && c.Environments[0].Properties["x"] == "1" && c.Environments[1].Type == "sandbox"
		}},
		"open address is not loopback":   {"[cardea]\nlisten = \"0.0.0.0\"\n", func(c *Config) bool { return !c.Loopback() }},
		"bind address of the gateway":    {"[keystore.listener_profile]\nbind_address = \"0.0.0.0\"\n", func(c *Config) bool { return !c.Loopback() && c.Listen.Hosts[0] == "127.0.0.1" }},
		"outbound header, older inverse": {"[apim.oauth_config]\nremove_outbound_auth_header = false\n", func(c *Config) bool { return c.ForwardAuth }},
		"quoted table of system settings": {"[system.parameter]\n'rest.api.publisher.allowed.origins' = \"https://a.example,https://b.example\"\n", func(c *Config) bool {
			return slices.Equal(c.Portals.PublisherOrigin, []string{"https://a.example", "https://b.example"})
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := mustLoad(t, tt.toml)
			if !tt.ok(c) {
				t.Errorf("%#v", c)
			}
		})
	}
}

func TestPrecedenceIsFlagEnvironmentFile(t *testing.T) {
	file := "[server]\noffset = 1\nhostname = \"file\"\n"
	env := func(s *Source) { s.Env = []string{"CARDEA_SERVER_OFFSET=2", "CARDEA_SERVER_HOSTNAME=env"} }
	flag := func(s *Source) { s.Set = map[string]string{"server.offset": "3"} }
	if c := mustLoad(t, file); c.Offset != 1 || c.Hostname != "file" {
		t.Errorf("file: %d %s", c.Offset, c.Hostname)
	}
	if c := mustLoad(t, file, env); c.Offset != 2 || c.Hostname != "env" {
		t.Errorf("environment: %d %s", c.Offset, c.Hostname)
	}
	if c := mustLoad(t, file, env, flag); c.Offset != 3 || c.Hostname != "env" {
		t.Errorf("flag: %d %s", c.Offset, c.Hostname)
	}
}

func TestOwnSectionInTheEnvironment(t *testing.T) {
	c := mustLoad(t, "", func(s *Source) {
		s.Env = []string{"CARDEA_DATABASE_URL=postgres://u:p@h/n", "CARDEA_USER=x", "CARDEA_NO_SUCH=1"}
	})
	if !c.Database.Postgres || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "CARDEA_NO_SUCH") {
		t.Errorf("postgres = %v, warnings = %v", c.Database.Postgres, c.Warnings)
	}
}

func TestIgnoredKeysGiveOneWarning(t *testing.T) {
	c := mustLoad(t, "[realm_manager]\ndata_source = \"x\"\n[clustering]\nmembers = [\"a\"]\n[apim.monetization]\ngranularity = \"days\"\n[monitoring.jmx]\nrmi_server_start = true\n")
	if len(c.Warnings) != 2 || !strings.Contains(c.Warnings[0], "clustering.members, realm_manager.data_source") || strings.Contains(strings.Join(c.Warnings, ""), "jmx") {
		t.Errorf("warnings = %q", c.Warnings)
	}
}

func TestSecretsCannotBePrinted(t *testing.T) {
	s := Secret("hunter2")
	js, err := json.Marshal(struct{ S Secret }{s})
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s", s, s, s, s), string(js), s.LogValue().String()} {
		if strings.Contains(out, "hunter2") {
			t.Errorf("secret printed: %s", out)
		}
	}
}

func TestErrorsHoldNoSecretValues(t *testing.T) {
	_, err := load(t, "[super_admin]\npassword = [\"hunter2\"]\n[cardea]\nmaster_key = \"hunter2\"\n")
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error = %v", err)
	}
}

func TestEveryClosedSectionHasKeys(t *testing.T) {
	cat := theCatalogue()
	for _, sec := range cat.closed {
		if !slices.ContainsFunc(cat.rows, func(r row) bool { return len(r.pattern) > len(sec) && slices.Equal(r.pattern[:len(sec)], sec) }) {
			t.Errorf("closed section %v has no keys", sec)
		}
	}
	for _, r := range cat.rows {
		if !slices.Contains([]reading{same, mapped, ignore, quiet, later, ours}, r.reading) {
			t.Errorf("%v: unknown reading %q", r.pattern, r.reading)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("[server]\noffset = 1\n")
	f.Add("[[apim.gateway.environment]]\nname='$ref{a.b}'\nx={a=[{b=1}]}\n")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := parse("x.toml", []byte(text))
		if err != nil {
			return
		}
		l := &loader{cat: theCatalogue(), raw: map[string]any{}, where: map[string]string{}}
		for _, e := range entries {
			l.admit(e, "x")
		}
		build(l, l.resolve())
	})
}

func TestKeystores(t *testing.T) {
	for name, tt := range map[string]struct {
		toml string
		ok   func(*Config) bool
		warn string
	}{
		"PKCS12 of the TLS section": {"[keystore.tls]\nfile_name = \"own.p12\"\ntype = \"PKCS12\"\npassword = \"p\"\n", func(c *Config) bool {
			k := c.Certificate.Keystore
			return k.Type == "PKCS12" && k.Password.Reveal() == "p" && filepath.Base(k.File) == "own.p12" && c.Certificate.File == ""
		}, ""},
		"what TLS leaves out is that of primary": {"[keystore.primary]\nfile_name = \"own.p12\"\npassword = \"p\"\n[keystore.tls]\nalias = \"a\"\n", func(c *Config) bool {
			k := c.Certificate.Keystore
			return k.Type == "PKCS12" && k.Password.Reveal() == "p" && k.Alias == "a"
		}, "tokens are not signed with it yet"},
		"JKS in the original's folder": {"[keystore.tls]\nfile_name = \"own.jks\"\n", func(c *Config) bool {
			return c.Certificate.Keystore.Type == "JKS"
		}, ""},
		"PEM": {"[keystore.tls]\nfile_name = \"own.pem\"\n", func(c *Config) bool {
			return c.Certificate.Keystore.File == "" && c.Certificate.File == c.Certificate.KeyFile && c.Certificate.File != ""
		}, ""},
		"shipped trust store that is not there": {"[truststore]\nfile_name = \"client-truststore.jks\"\n", func(c *Config) bool {
			return c.Truststore.File == ""
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := mustLoad(t, tt.toml, func(s *Source) {
				dir := filepath.Join(s.Home, "repository/resources/security")
				if err := os.MkdirAll(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				for _, f := range []string{filepath.Join(s.Home, "own.p12"), filepath.Join(s.Home, "own.pem"), filepath.Join(dir, "own.jks")} {
					if err := os.WriteFile(f, nil, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			})
			if !tt.ok(c) {
				t.Errorf("%+v %+v", c.Certificate, c.Truststore)
			}
			if got := strings.Join(c.Warnings, "\n"); (got == "") != (tt.warn == "") || !strings.Contains(got, tt.warn) {
				t.Errorf("warnings %q, want %q", got, tt.warn)
			}
		})
	}
	for _, bad := range []string{"[keystore.tls]\nfile_name = \"none.p12\"\n", "[truststore]\nfile_name = \"none.pem\"\n"} {
		if _, err := load(t, bad); err == nil || !strings.Contains(err.Error(), "no such file none") {
			t.Errorf("error = %v, want it to name the file", err)
		}
	}
}
