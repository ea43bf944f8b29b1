package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/cardea-apim/cardea/internal/client"
)

// serverFlags name a server and who asks.
type serverFlags struct {
	server, user, password, caFile, home string
	insecure                             bool
}

func (f *serverFlags) bind(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.server, "server", "", "management URL (default $CARDEA_SERVER or https://localhost:9443)")
	fl.StringVar(&f.user, "user", "", "user name (default $CARDEA_USER, a saved sign-in, or admin on this machine)")
	fl.StringVar(&f.password, "password", "", "password (better: $CARDEA_PASSWORD)")
	fl.StringVar(&f.caFile, "ca", "", "file of a certificate authority to trust")
	fl.BoolVar(&f.insecure, "insecure", false, "do not check the server's certificate")
	fl.StringVar(&f.home, "home", "", "home of a server on this machine, for its certificate and first password (default $CARDEA_HOME or .cardea)")
}

func (f *serverFlags) base() (string, error) {
	s := f.server
	if s == "" {
		s = os.Getenv("CARDEA_SERVER")
	}
	if s == "" {
		s = "https://localhost:9443"
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return "", usage("--server wants a URL such as https://localhost:9443, not %q", s)
	}
	return strings.TrimSuffix(s, "/"), nil
}

func local(base string) bool {
	u, err := url.Parse(base)
	if err != nil {
		return false
	}
	if u.Hostname() == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(u.Hostname())
	return err == nil && a.IsLoopback()
}

func (f *serverFlags) homeDir() string { h := homeFlags{home: f.home}; return h.dir() }

// http is a client that trusts the system, --ca, and for a server on this
// machine the authority of its home. It reaches a loopback server directly.
func (f *serverFlags) http(base string) (*http.Client, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	conf := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, InsecureSkipVerify: f.insecure} //nolint:gosec // asked for by the user
	if f.caFile != "" {
		pem, err := os.ReadFile(f.caFile)
		if err != nil {
			return nil, fmt.Errorf("read --ca: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read --ca: %s holds no certificate", f.caFile)
		}
	}
	if local(base) {
		if pem, err := os.ReadFile(caFile(f.homeDir())); err == nil {
			pool.AppendCertsFromPEM(pem)
		} else if f.caFile == "" && f.home == "" {
			conf.InsecureSkipVerify = true // nobody else can answer on this machine's loopback address
		}
	}
	dial := &net.Dialer{Timeout: 5 * time.Second}
	return &http.Client{
		Timeout:   5 * time.Minute,
		Transport: &http.Transport{TLSClientConfig: conf, DialContext: dial.DialContext, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true},
	}, nil
}

// connect signs in and gives a client that tells its steps on stderr.
func (f *serverFlags) connect(ctx context.Context, cmd *cobra.Command) (*client.Client, error) {
	base, err := f.base()
	if err != nil {
		return nil, err
	}
	h, err := f.http(base)
	if err != nil {
		return nil, err
	}
	token, err := f.token(ctx, h, base)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("no server listens at %s: start one with cardea serve, or name another with --server", base)
	}
	if err != nil {
		return nil, err
	}
	return &client.Client{
		Base: base, HTTP: h, Authorize: client.Bearer(token),
		Progress: func(format string, args ...any) {
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...)
		},
	}, nil
}

func (f *serverFlags) token(ctx context.Context, h *http.Client, base string) (string, error) {
	user, password := f.user, f.password
	if user == "" {
		user = os.Getenv("CARDEA_USER")
	}
	if password == "" {
		password = os.Getenv("CARDEA_PASSWORD")
	}
	if user == "" && password == "" {
		if t, ok := savedToken(base); ok {
			return t.Access, nil
		}
	}
	if password == "" {
		if !local(base) {
			return "", usage("who are you? give --user and $CARDEA_PASSWORD, or run cardea login once")
		}
		password = "admin"
		if b, err := os.ReadFile(filepath.Join(f.homeDir(), "admin-password")); err == nil {
			password = strings.TrimSpace(string(b))
		}
	}
	if user == "" {
		user = "admin"
	}
	t, err := client.Login(ctx, h, base, user, password)
	return t.Access, err
}

// tokenFile holds saved sign-ins by server.
func tokenFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find configuration directory: %w", err)
	}
	return filepath.Join(dir, "cardea", "tokens.json"), nil
}

func readTokens() (map[string]client.Token, error) {
	name, err := tokenFile()
	if err != nil {
		return nil, err
	}
	all := map[string]client.Token{}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read saved sign-ins: %w", err)
	}
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("read saved sign-ins %s: %w", name, err)
	}
	return all, nil
}

func savedToken(base string) (client.Token, bool) {
	all, err := readTokens()
	if err != nil {
		return client.Token{}, false
	}
	t, ok := all[base]
	return t, ok && time.Now().Add(10*time.Second).Before(t.Expires)
}

func saveToken(base string, t client.Token) error {
	all, err := readTokens()
	if err != nil {
		return err
	}
	all[base] = t
	name, err := tokenFile()
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("save sign-in: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("save sign-in: %w", err)
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		return fmt.Errorf("save sign-in: %w", err)
	}
	return nil
}

func loginCommand() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use: "login", Short: "sign in once and keep the token", Args: atMost(0),
		Long: "Signs in with --user and --password (or CARDEA_USER, CARDEA_PASSWORD) and keeps the token for later commands in your configuration directory.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			base, err := f.base()
			if err != nil {
				return err
			}
			h, err := f.http(base)
			if err != nil {
				return err
			}
			user, password := f.user, f.password
			if user == "" {
				user = os.Getenv("CARDEA_USER")
			}
			if password == "" {
				password = os.Getenv("CARDEA_PASSWORD")
			}
			if user == "" || password == "" {
				return usage("login wants --user and a password ($CARDEA_PASSWORD)")
			}
			t, err := client.Login(cmd.Context(), h, base, user, password)
			if err != nil {
				return err
			}
			if err := saveToken(base, t); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "signed in to %s as %s until %s\n", base, user, t.Expires.Format(time.DateTime))
			return err
		},
	}
	f.bind(cmd)
	return cmd
}
