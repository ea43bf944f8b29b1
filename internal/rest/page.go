package rest

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/cardea-apim/cardea/internal/fault"
)

// DefaultLimit is the page size when none is asked for; MaxLimit bounds it.
const (
	DefaultLimit = 25
	MaxLimit     = 5000
)

// PageOf reads offset and limit of a list request. A limit of 0 means the default.
func PageOf(r *http.Request) (offset, limit int, err error) {
	offset, err = number(r, "offset", 0)
	if err != nil {
		return 0, 0, err
	}
	limit, err = number(r, "limit", DefaultLimit)
	if err != nil {
		return 0, 0, err
	}
	if limit == 0 {
		limit = DefaultLimit
	}
	return offset, min(limit, MaxLimit), nil
}

func number(r *http.Request, name string, def int) (int, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 {
		return 0, fault.BadRequest.Withf("Parameter %s must be a whole number that is not negative", name)
	}
	return int(n), nil
}

// List is the wire form of one page of a list.
type List[T any] struct {
	Count      int        `json:"count"`
	List       []T        `json:"list"`
	Pagination Pagination `json:"pagination"`
}

// Pagination says where a page lies. Next and Previous are relative URLs, or
// empty.
type Pagination struct {
	Offset   int    `json:"offset"`
	Limit    int    `json:"limit"`
	Total    int    `json:"total"`
	Next     string `json:"next"`
	Previous string `json:"previous"`
}

// NewList makes the wire form of a page of items out of total hits.
func NewList[T any](r *http.Request, items []T, total, offset, limit int) List[T] {
	if items == nil {
		items = []T{}
	}
	return List[T]{Count: len(items), List: items, Pagination: PaginationOf(r, total, offset, limit)}
}

// PaginationOf makes the pagination member for a request.
func PaginationOf(r *http.Request, total, offset, limit int) Pagination {
	p := Pagination{Offset: offset, Limit: limit, Total: total}
	if limit <= 0 {
		return p
	}
	if offset+limit < total {
		p.Next = pageURL(r, offset+limit, limit)
	}
	if offset > 0 {
		p.Previous = pageURL(r, max(0, offset-limit), limit)
	}
	return p
}

func pageURL(r *http.Request, offset, limit int) string {
	path := r.URL.Path
	if c := callOf(r.Context()); c != nil {
		path = strings.TrimPrefix(path, c.surface.Base)
	}
	q := url.Values{}
	for k, v := range r.URL.Query() {
		q[k] = v
	}
	q.Set("offset", strconv.Itoa(offset))
	q.Set("limit", strconv.Itoa(limit))
	return (&url.URL{Path: path, RawQuery: q.Encode()}).String()
}

// Window cuts one page out of a whole list that is already in memory.
func Window[T any](items []T, offset, limit int) []T {
	if offset >= len(items) {
		return []T{}
	}
	return items[offset:min(len(items), offset+limit)]
}
