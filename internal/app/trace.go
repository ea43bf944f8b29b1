package app

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
)

// traced gives each answer of the management side an id, the caller's own if it
// sent a usable one, and logs the request where that is asked for.
func traced(header string, access *slog.Logger, client func(*http.Request) string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("activityID")
		if !usableID(id) {
			var b [16]byte
			rand.Read(b[:])
			id = hex.EncodeToString(b[:])
		}
		w.Header().Set(header, id)
		if access == nil {
			next.ServeHTTP(w, r)
			return
		}
		start := time.Now()
		c := &counted{ResponseWriter: w}
		next.ServeHTTP(c, r)
		access.InfoContext(r.Context(), "request", "client", client(r), "method", r.Method, "path", r.URL.Path, "proto", r.Proto,
			"status", c.code(), "bytes", c.bytes, "took", time.Since(start).Round(time.Microsecond), "agent", shortened(r.UserAgent()), "trace", id)
	})
}

// usableID admits ids that can go into a header and a log as they are.
func usableID(s string) bool {
	return len(s) >= 8 && len(s) <= 64 && strings.Trim(s, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.") == ""
}

func shortened(s string) string { return s[:min(len(s), 200)] }

// counted remembers what was answered.
type counted struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (c *counted) code() int {
	if c.status == 0 {
		return http.StatusOK
	}
	return c.status
}

// WriteHeader notes the status; informational ones come before it.
func (c *counted) WriteHeader(status int) {
	if c.status < http.StatusOK {
		c.status = status
	}
	c.ResponseWriter.WriteHeader(status)
}

// Write counts the bytes of the body.
func (c *counted) Write(p []byte) (int, error) {
	if c.status < http.StatusOK {
		c.status = http.StatusOK
	}
	n, err := c.ResponseWriter.Write(p)
	c.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// Flush sends what is buffered.
func (c *counted) Flush() { _ = http.NewResponseController(c.ResponseWriter).Flush() }

// Hijack takes the connection over.
func (c *counted) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(c.ResponseWriter).Hijack()
}
