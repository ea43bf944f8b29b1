package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/bench/section"
)

func us(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/1000) }

// line is an outcome for the terminal.
func (o *outcome) line() string {
	ours, ng := o.paced["ours"], o.paced["nginx"]
	return fmt.Sprintf("%-8s %s µs against %s µs of nginx at %.0f/s: ratio %.2f (%.2f-%.2f), at full load %.2f; full %.0f/s against %.0f/s; p50 %s p99 %s µs",
		o.name, us(ours.cpu), us(ng.cpu), o.rate, o.ratio, o.ratioLo, o.ratioH, o.fullRatio, o.full["ours"].rate, o.full["nginx"].rate, us(ours.p50), us(ours.p99))
}

func (o *outcome) throughput(name string) string {
	s, ok := o.full[name]
	if !ok {
		return ""
	}
	text := fmt.Sprintf("%.0f", s.rate)
	if !s.counts() {
		text = fmt.Sprintf("(%s: %.0f/%.0f %%)", text, 100*s.proxyBusy, 100*s.loadBusy)
	}
	return text
}

// report is the section of RESULTS.md.
func (b *bench) report(list []*outcome, took time.Duration) string {
	var t strings.Builder
	fmt.Fprintf(&t, `# Gateway beside nginx

Written by `+"`make bench-gateway`"+` on %s (%s/%s, %s) in %v. The gateway has core %d to itself, with GOMAXPROCS=1; in its turns nginx
has (one worker, plain proxy). Load, backend (nginx; for large bodies a Go program) and management share core %d.
%d connections, answers of 1 KB, rounds in turn: %d of %v. Processor time is the process's own, kernel work included,
at equal rate: half of what the slower one could do by its processor time at full load. The ratio is nginx over ours,
median of the rounds (lowest to highest). The fewer requests, the more each one costs, because the core sleeps between
them; the ratio at full load, each at its own rate, stands beside it. nginx gets the request without credentials.
Throughput in brackets does not count: the proxy's core was not 95 %% busy or the other one was 90 %% busy
(proxy's/other). Added latency is that of the gateway less that of the backend called directly at the same rate;
latency is measured from the time a request was due. Other processes took more than %.0f %% of a core in %d of %d
measurements.

| Scenario | CPU µs per request, ours | nginx | nginx / ours | target | rate | nginx / ours, full load | p50 / p99 µs, ours | nginx | added p50 / p99 µs | req/s full, ours | nginx | memory MB |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
`, time.Now().UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH, runtime.Version(), took.Round(time.Second), proxyCore, loadCore, conns, b.rounds, b.span, 100*tolerated, b.disturbed, b.measured)
	for _, o := range list {
		ours, ng := o.paced["ours"], o.paced["nginx"]
		target := ""
		if o.want > 0 {
			target = fmt.Sprintf("≥ %.2f %s", o.want, mark(o.ratio >= o.want))
		}
		added := ""
		if o.added {
			added = us(o.added50) + " / " + us(o.added99)
		}
		fmt.Fprintf(&t, "| %s | %s | %s | %.2f (%.2f to %.2f) | %s | %.0f | %.2f | %s / %s | %s / %s | %s | %s | %s | %.0f |\n", o.title, us(ours.cpu), us(ng.cpu), o.ratio, o.ratioLo, o.ratioH,
			target, o.rate, o.fullRatio, us(ours.p50), us(ours.p99), us(ng.p50), us(ng.p99), added, o.throughput("ours"), o.throughput("nginx"), o.residentMB)
		if g, ok := o.paced["go"]; ok {
			fmt.Fprintf(&t, "| for scale: Go's httputil.ReverseProxy | %s | %s | %.2f | | %.0f | %.2f | %s / %s | %s / %s | | %s | %s | |\n", us(g.cpu), us(ng.cpu), float64(ng.cpu)/float64(g.cpu),
				o.rate, float64(o.full["nginx"].cpu)/float64(o.full["go"].cpu), us(g.p50), us(g.p99), us(ng.p50), us(ng.p99), o.throughput("go"), o.throughput("nginx"))
		}
	}
	t.WriteString("\n| Property | Target | Measured | |\n|---|---|---|---|\n")
	for _, o := range list {
		if o.name == "jwt" && o.added {
			fmt.Fprintf(&t, "| latency added at half load, JWT with all limits, p50 and p99 | ≤ 150 µs, ≤ 1 ms | %s µs, %s µs | %s |\n", us(o.added50), us(o.added99), mark(o.added50 <= 150*time.Microsecond && o.added99 <= time.Millisecond))
		}
		if o.name == "apis10k" {
			fmt.Fprintf(&t, "| memory of the gateway process for 10,000 APIs | ≤ +150 MB | +%.0f MB (%.0f to %.0f) | %s |\n", b.s.fullMB-b.s.emptyMB, b.s.emptyMB, b.s.fullMB, mark(b.s.fullMB-b.s.emptyMB <= 150))
		}
	}
	if len(b.starts) > 0 {
		slices.Sort(b.starts)
		fmt.Fprintf(&t, "| start of the gateway process to its first proxied 200, median of %d, worst | | %.0f ms, %.0f ms | |\n", len(b.starts), ms(b.starts[len(b.starts)/2]), ms(b.starts[len(b.starts)-1]))
	}
	if b.s.startedMany > 0 {
		fmt.Fprintf(&t, "| the same with 10,000 APIs | | %.0f ms | |\n", ms(b.s.startedMany))
	}
	return t.String()
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func mark(met bool) string {
	if met {
		return "met"
	}
	return "**missed**"
}

func writeReport(path, report string) error { return section.Replace(path, report) }

// makeCertificate makes the certificate that both proxies show: ECDSA P-256.
func makeCertificate(dir string) (cert, key string, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &k.PublicKey, k)
	if err != nil {
		return "", "", err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return "", "", err
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return "", "", err
	}
	return cert, key, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600)
}
