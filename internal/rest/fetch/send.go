package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Request is a call to an address that somebody configured.
type Request struct {
	Method, URL string
	Header      http.Header
	Body        []byte
	Limit       int64 // of the answer's body, bytes
}

// Answer is what came back, whatever its status.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Send makes a call through the guarded dialler. Redirects are not followed:
// what a call carries is meant for one address only.
func (c *Client) Send(ctx context.Context, r *Request) (*Answer, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return nil, errors.New("send: the address is malformed") // it may hold a secret
	}
	if err := checkURL(u); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, u.String(), bytes.NewReader(r.Body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	for k, v := range r.Header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", "cardea")
	once := *c.http
	once.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := once.Do(req)
	if errors.Is(err, ErrRefused) {
		return nil, fmt.Errorf("send: %w", ErrRefused) // not which address a name has inside
	}
	if err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, r.Limit+1))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if int64(len(b)) > r.Limit {
		return nil, ErrTooLarge
	}
	return &Answer{Status: res.StatusCode, Header: res.Header, Body: b}, nil
}
