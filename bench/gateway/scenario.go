package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
)

// scenario is one row of the table.
type scenario struct {
	name, title string
	want        float64                                   // least ratio; 0: none
	before      func(ctx context.Context, b *bench) error // set-up
	after       func(ctx context.Context, b *bench) error
	listener    func(b *bench) listeners
	request     func(b *bench) [][]byte // to the gateway; nginx gets plain of the same kind
	plain       []byte                  // to nginx, Go's proxy and the backend
	wrk         func(b *bench) []string // arguments that make wrk send the same; nil: our own load process does
	body        int
	secure, h2  bool
	fresh       bool // the gateway starts again before each measurement, each request is sent once
	goProxy     bool
}

// listeners of the same kind of the parties.
type listeners struct{ ours, nginx, direct string }

const plainHeader = "Host: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n"

func request(method, path, header, body string) []byte {
	if body != "" {
		header += fmt.Sprintf("Content-Type: text/plain\r\nContent-Length: %d\r\n", len(body))
	}
	return []byte(method + " " + path + " HTTP/1.1\r\n" + plainHeader + header + "\r\n" + body)
}

func bearer(t string) string { return "Authorization: Bearer " + t + "\r\n" }

// same is the header arguments that wrk and h2load need beside their own.
func same(header string) []string {
	args := []string{"-H", "User-Agent: bench"}
	if header != "" {
		args = append(args, "-H", strings.TrimSpace(header))
	}
	return args
}

func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return "127.0.0.1:" + u.Port()
}

func plainListeners(b *bench) listeners {
	return listeners{hostOf(b.s.gw.Gateway()), b.proxy.plain, b.s.small}
}

func secureListeners(b *bench) listeners {
	return listeners{ours: hostOf(b.s.gw.GatewayTLS()), nginx: b.proxy.secure}
}

func tokenRequests(b *bench) [][]byte {
	out := make([][]byte, len(b.s.many))
	for i, t := range b.s.many {
		out[i] = request("GET", jwtPath, bearer(t), "")
	}
	return out
}

func needTokens(ctx context.Context, b *bench) error { return b.s.manyTokens(ctx) }

var scenarios = []scenario{
	{
		name: "plain", title: "plain proxy, analytics on", want: 1, goProxy: true, listener: plainListeners, plain: request("GET", plainPath, "", ""),
		wrk: func(*bench) []string { return same("") },
	},
	{
		name: "quiet", title: "plain proxy, analytics off", want: 1, listener: plainListeners, plain: request("GET", plainPath, "", ""),
		before: func(ctx context.Context, b *bench) error { return b.s.analytics(ctx, false) },
		after:  func(ctx context.Context, b *bench) error { return b.s.analytics(ctx, true) },
		wrk:    func(*bench) []string { return same("") },
	},
	{
		name: "jwt", title: "JWT, subscription, scope, limits, analytics; one token", want: 0.85, listener: plainListeners, plain: request("GET", plainPath, "", ""),
		request: func(b *bench) [][]byte { return [][]byte{request("GET", jwtPath, bearer(b.s.token), "")} },
		wrk:     func(b *bench) []string { return same(bearer(b.s.token)) },
	},
	{
		name: "jwt10k", title: "the same, 10,000 tokens", want: 0.75, before: needTokens, listener: plainListeners, plain: request("GET", plainPath, "", ""),
		request: tokenRequests,
	},
	{
		name: "jwtnew", title: "the same, every token new", want: 0.2, before: needTokens, listener: plainListeners, plain: request("GET", plainPath, "", ""),
		request: tokenRequests, fresh: true,
	},
	{
		name: "key", title: "API key, subscription, limits, analytics", want: 0.85, listener: plainListeners, plain: request("GET", plainPath, "", ""),
		request: func(b *bench) [][]byte {
			return [][]byte{request("GET", keyPath, "ApiKey: "+b.s.apiKey+"\r\n", "")}
		},
		wrk: func(b *bench) []string { return same("ApiKey: " + b.s.apiKey) },
	},
	{
		name: "large", title: "100 KB bodies both ways, plain", body: largeBody, plain: request("POST", largePath, "", strings.Repeat("x", largeBody)),
		listener: func(b *bench) listeners {
			return listeners{hostOf(b.s.gw.Gateway()), b.proxy.large, b.s.large}
		},
	},
	{
		name: "tls", title: "TLS 1.3, plain", secure: true, listener: secureListeners, plain: request("GET", plainPath, "", ""),
		wrk: func(*bench) []string { return same("") },
	},
	{
		name: "h2", title: "HTTP/2 over TLS 1.3, plain", h2: true, secure: true, plain: request("GET", plainPath, "", ""),
		listener: func(b *bench) listeners {
			return listeners{ours: hostOf(b.s.gw.GatewayTLS()), nginx: b.proxy.h2}
		},
	},
	{
		name: "apis10k", title: "JWT, limits, analytics; 100 of 10,000 deployed APIs in turn", want: 0.75, listener: plainListeners, plain: request("GET", plainPath, "", ""),
		before: func(ctx context.Context, b *bench) error { return b.s.manyAPIsDeployed(ctx) },
		after:  func(ctx context.Context, b *bench) error { return b.s.restartWithMany(ctx) },
		request: func(b *bench) [][]byte {
			var out [][]byte
			for i := 0; i < manyAPIs; i += manyAPIs / calledOf {
				out = append(out, request("GET", fmt.Sprintf("/many%05d/1.0.0/a", i), bearer(b.s.token), ""))
			}
			return out
		},
	},
}
