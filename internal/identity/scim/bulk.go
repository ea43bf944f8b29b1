package scim

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/cardea-apim/cardea/internal/fault"
)

// bulk performs the operations of a BulkRequest one after the other (RFC 7644
// §3.7). Each needs its own right. An operation may name what an earlier one
// created by bulkId:NAME.
func (c *call) bulk(doc map[string]any) (*result, error) {
	if a := c.desk.Actor(); a.Client != "" && !a.HasScope("internal_bulk_resource_create") && !a.HasScope("apim:admin") {
		return nil, fault.NotPermitted.With("the token lacks the scope internal_bulk_resource_create")
	}
	if err := wantSchema(doc, bulkRequest); err != nil {
		return nil, err
	}
	v, _ := lookup(doc, "Operations")
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil, bad("invalidSyntax", "want Operations")
	}
	if len(list) > maxBulk {
		return nil, &refusal{status: http.StatusRequestEntityTooLarge, detail: "more than " + strconv.Itoa(maxBulk) + " operations"}
	}
	limit, err := failLimit(doc)
	if err != nil {
		return nil, err
	}
	made := map[string]string{} // bulkId to id
	failures := 0
	out := make([]any, 0, len(list))
	for _, v := range list {
		answer, failed := c.bulkOne(v, made)
		out = append(out, answer)
		if failed {
			if failures++; limit > 0 && failures >= limit {
				break
			}
		}
	}
	return &result{status: http.StatusOK, body: map[string]any{"schemas": []string{bulkAnswer}, "Operations": out}}, nil
}

func failLimit(doc map[string]any) (int, error) {
	v, ok := lookup(doc, "failOnErrors")
	if !ok || v == nil {
		return 0, nil
	}
	n, ok := v.(interface{ Int64() (int64, error) })
	if !ok {
		return 0, bad("invalidValue", "failOnErrors is a whole number")
	}
	limit, err := n.Int64()
	if err != nil || limit < 0 {
		return 0, bad("invalidValue", "failOnErrors is a whole number")
	}
	return int(min(limit, maxBulk)), nil
}

func (c *call) bulkOne(v any, made map[string]string) (answer map[string]any, failed bool) {
	m, _ := v.(map[string]any)
	member := func(name string) string {
		v, _ := lookup(m, name)
		s, _ := v.(string)
		return s
	}
	method, path, id := strings.ToUpper(member("method")), member("path"), member("bulkId")
	answer = map[string]any{"method": method}
	if id != "" {
		answer["bulkId"] = id
	}
	res, err := c.bulkDo(m, method, path, id, made)
	if err != nil {
		status, body, hidden := errorBody(err)
		if hidden {
			c.s.o.Log.ErrorContext(c.ctx, "operation of a bulk request failed", "path", path, "err", err)
			body["detail"] = "Internal server error"
		}
		answer["status"], answer["response"] = strconv.Itoa(status), body
		if method != http.MethodPost {
			answer["location"] = c.base + path
		}
		return answer, true
	}
	answer["status"] = strconv.Itoa(res.status)
	if answer["location"] = res.location; res.location == "" {
		answer["location"] = c.base + path
	}
	if doc, ok := res.body.(map[string]any); ok && id != "" {
		made[id], _ = doc["id"].(string)
	}
	return answer, false
}

func (c *call) bulkDo(m map[string]any, method, path, id string, made map[string]string) (*result, error) {
	if m == nil || method == http.MethodGet {
		return nil, bad("invalidSyntax", "an operation has a method (POST, PUT, PATCH or DELETE) and a path")
	}
	if method == http.MethodPost && id == "" {
		return nil, bad("invalidSyntax", "POST needs a bulkId")
	}
	if _, twice := made[id]; twice && id != "" {
		return nil, bad("invalidSyntax", "the bulkId %.64q is used twice", id)
	}
	resolved, err := resolve(path, made)
	if err != nil {
		return nil, err
	}
	data, _ := lookup(m, "data")
	if data, err = resolveAll(data, made); err != nil {
		return nil, err
	}
	doc, _ := data.(map[string]any)
	if doc == nil && method != http.MethodDelete {
		return nil, bad("invalidSyntax", "the operation has no data")
	}
	one := &call{s: c.s, ctx: c.ctx, desk: c.desk, base: c.base, inBulk: true}
	return one.do(method, resolved, nil, doc)
}

var errBulkID = errors.New("unknown bulkId")

// resolve replaces bulkId:NAME, alone or behind the last slash.
func resolve(s string, made map[string]string) (string, error) {
	head, name, ok := strings.Cut(s, "bulkId:")
	if !ok || head != "" && !strings.HasSuffix(head, "/") {
		return s, nil
	}
	id := made[name]
	if id == "" {
		return "", &refusal{status: http.StatusConflict, detail: errBulkID.Error() + " " + strconv.Quote(name[:min(len(name), 64)])}
	}
	return head + id, nil
}

// resolveAll replaces references in the values of value members.
func resolveAll(v any, made map[string]string) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		for name, e := range v {
			r, err := resolveAll(e, made)
			if err != nil {
				return nil, err
			}
			if s, ok := r.(string); ok && strings.EqualFold(name, "value") {
				if r, err = resolve(s, made); err != nil {
					return nil, err
				}
			}
			v[name] = r
		}
	case []any:
		for i, e := range v {
			r, err := resolveAll(e, made)
			if err != nil {
				return nil, err
			}
			v[i] = r
		}
	}
	return v, nil
}
