package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/cardea-apim/cardea/internal/e2e"
)

// prove sends a bad and a good request for each policy that a scenario measures.
func (s *stack) prove(ctx context.Context) error {
	bearer := func(t string) [2]string { return [2]string{"Authorization", "Bearer " + t} }
	forged := s.token[:len(s.token)-8] + strings.Map(func(r rune) rune {
		if r == 'A' {
			return 'B'
		}
		return 'A'
	}, s.token[len(s.token)-8:])
	for _, x := range []struct {
		what   string
		path   string
		header [2]string
		want   int
	}{
		{"an open operation", plainPath, [2]string{}, 200},
		{"an unknown path", "/plain/1.0.0/b", [2]string{}, 404},
		{"no token", jwtPath, [2]string{}, 401},
		{"a token with another signature", jwtPath, bearer(forged), 401},
		{"a token without the scope", jwtPath, bearer(s.noScope), 403},
		{"a token of an application without a subscription", jwtPath, bearer(s.stranger), 403},
		{"a good token", jwtPath, bearer(s.token), 200},
		{"no API key", keyPath, [2]string{}, 401},
		{"a wrong API key", keyPath, [2]string{"ApiKey", "x" + s.apiKey}, 401},
		{"a good API key", keyPath, [2]string{"ApiKey", s.apiKey}, 200},
	} {
		status, err := s.call(ctx, http.MethodGet, s.gw.Gateway()+x.path, x.header, "")
		if err != nil {
			return fmt.Errorf("%s: %w", x.what, err)
		}
		if status != x.want {
			return fmt.Errorf("%s: status %d, want %d", x.what, status, x.want)
		}
	}
	if status, err := s.call(ctx, http.MethodGet, s.gw.GatewayTLS()+jwtPath, bearer(s.token), ""); err != nil || status != 200 {
		return fmt.Errorf("a good token over TLS: status %d, %v", status, err)
	}
	if status, err := s.call(ctx, http.MethodPost, s.gw.Gateway()+largePath, [2]string{}, strings.Repeat("x", largeBody)); err != nil || status != 200 {
		return fmt.Errorf("a large body: status %d, %v", status, err)
	}
	passed, refused := 0, 0
	for range 12 { // five pass, or ten when a minute turns meanwhile
		status, err := s.call(ctx, http.MethodGet, s.gw.Gateway()+jwtPath, bearer(s.tiny), "")
		switch {
		case err != nil:
			return err
		case status == http.StatusOK:
			passed++
		case status == http.StatusTooManyRequests:
			refused++
		default:
			return fmt.Errorf("a limit of five a minute: status %d", status)
		}
	}
	if passed < 5 || refused < 2 {
		return fmt.Errorf("a limit of five a minute: %d passed and %d were refused", passed, refused)
	}
	return nil
}

func (s *stack) call(ctx context.Context, method, target string, header [2]string, body string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	if header[0] != "" {
		req.Header.Set(header[0], header[1])
	}
	res, err := e2e.Insecure.Do(req)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}
