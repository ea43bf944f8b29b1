package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Audit is one row of the audit: who did what, from where. Before and After are
// JSON objects, of an update only the members that differ; secrets are masked.
type Audit struct {
	ID     int64
	Tenant apim.TenantID
	Kind   string
	Object string
	Action string
	Who    string
	Addr   string
	At     time.Time
	Before json.RawMessage // nil for a create
	After  json.RawMessage // nil for a delete
}

// Version is one row of a noun's history.
type Version struct {
	Rev    int64
	At     time.Time
	Who    string
	Action string
	Doc    apim.BlobRef // the noun as JSON, in Blobs
}

var (
	secretValue = regexp.MustCompile(`"(sealed|argon2id|sha256):(?:[^"\\]|\\.)*"`)
	secretWord  = regexp.MustCompile(`(sealed|argon2id|sha256):[^\s"\\*]+`)
)

// redact masks what begins like a secret: whole values, and words inside a
// value that is itself a document.
func redact(doc []byte) []byte {
	if !bytes.Contains(doc, []byte("sealed:")) && !bytes.Contains(doc, []byte("argon2id:")) && !bytes.Contains(doc, []byte("sha256:")) {
		return doc
	}
	doc = secretValue.ReplaceAll(doc, []byte(`"$1:********"`))
	return secretWord.ReplaceAll(doc, []byte(`$1:********`))
}

// redactedDiff is what the audit keeps of two documents.
func redactedDiff(before, after []byte) ([]byte, []byte) {
	if before == nil || after == nil {
		return redact(before), redact(after)
	}
	var b, a map[string]json.RawMessage
	if json.Unmarshal(before, &b) != nil || json.Unmarshal(after, &a) != nil {
		return redact(before), redact(after) // no objects: kept whole
	}
	for name, val := range a {
		if was, ok := b[name]; ok && bytes.Equal(was, val) {
			delete(a, name)
			delete(b, name)
		}
	}
	rest := func(m map[string]json.RawMessage) []byte {
		out, err := json.Marshal(m)
		if err != nil {
			return []byte("{}") // cannot be: the members were just read
		}
		return redact(out)
	}
	return rest(b), rest(a)
}

func audit(ctx context.Context, x *tx, tenant apim.TenantID, kind, object, action string, before, after []byte) error {
	var b, a any
	if before != nil {
		b = pack(before)
	}
	if after != nil {
		a = pack(after)
	}
	actor := apim.ActorFrom(ctx)
	_, err := x.exec(ctx, `INSERT INTO audits (tenant, kind, object, action, who, addr, at, before, after)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		string(tenant), kind, clean(object), action, clean(actor.User), clean(actor.Addr), micros(x.d.now()), b, a)
	return err
}

// Audit adds a row for what is no write of a noun, for example a failed
// sign-in. before and after may be nil; they are encoded as JSON and redacted.
func (d *DB) Audit(ctx context.Context, s apim.Scope, kind, object, action string, before, after any) error {
	if s.Tenant() == "" {
		return fmt.Errorf("audit %s: %w", kind, fault.NotPermitted.With("no tenant in scope"))
	}
	var docs [2][]byte
	for i, v := range []any{before, after} {
		if v == nil {
			continue
		}
		doc, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("audit %s: %w", kind, err)
		}
		docs[i] = redact(doc)
	}
	err := d.write(ctx, func(ctx context.Context, x *tx) error {
		return audit(ctx, x, s.Tenant(), kind, object, action, docs[0], docs[1])
	})
	if err != nil {
		return fmt.Errorf("audit %s: %w", kind, err)
	}
	return nil
}

var auditFields = map[string]form{"kind": text, "object": text, "action": text, "who": text, "at": number}

// Audits lists audit rows, newest first. Conditions are equalities on kind,
// object, action and who, and > or < on at; sorting is not offered.
func (d *DB) Audits(ctx context.Context, s apim.Scope, q apim.Query) (apim.Page[Audit], error) {
	p := apim.Page[Audit]{Items: []*Audit{}}
	if !s.Valid() {
		return p, fmt.Errorf("list audits: %w", fault.NotPermitted.With("no tenant in scope"))
	}
	if q.Offset < 0 || q.Limit < 0 || q.Sort != "" || len(q.Any) > 0 {
		return p, fmt.Errorf("list audits: %w", fault.BadRequest.With("only conditions and a page"))
	}
	b := &builder{}
	glue := " WHERE "
	if !s.All() {
		b.Str(glue + "tenant = ").Arg(string(s.Tenant()))
		glue = " AND "
	}
	for _, c := range q.Where {
		f, ok := auditFields[c.Col]
		ordered := c.Op == apim.Gt || c.Op == apim.Lt
		if !ok || (c.Op != apim.Eq && !(ordered && f == number)) {
			return p, fmt.Errorf("list audits: %w", fault.BadRequest.Withf("cannot be searched by %q %s", c.Col, c.Op))
		}
		val := stored(c.Value)
		if _, isText := val.(string); isText == (f == number) {
			return p, fmt.Errorf("list audits: %w", fault.BadRequest.Withf("%q takes another kind of value", c.Col))
		}
		b.Str(glue + c.Col + " " + string(c.Op) + " ").Arg(val)
		glue = " AND "
	}
	if err := d.one(ctx, "SELECT count(*) FROM audits"+b.String(), b.args, &p.Total); err != nil {
		return p, fmt.Errorf("list audits: %w", err)
	}
	b.Str(" ORDER BY id DESC")
	if q.Limit > 0 {
		b.Str(" LIMIT ").Arg(q.Limit).Str(" OFFSET ").Arg(q.Offset)
	}
	err := d.each(ctx, "SELECT id, tenant, kind, object, action, who, addr, at, before, after FROM audits"+b.String(), b.args, func(rows *sql.Rows) error {
		var a Audit
		var tenant string
		var at int64
		var before, after []byte
		if err := rows.Scan(&a.ID, &tenant, &a.Kind, &a.Object, &a.Action, &a.Who, &a.Addr, &at, &before, &after); err != nil {
			return err
		}
		a.Tenant, a.At = apim.TenantID(tenant), fromMicros(at)
		for _, part := range []struct {
			from []byte
			to   *json.RawMessage
		}{{before, &a.Before}, {after, &a.After}} {
			if part.from == nil {
				continue
			}
			doc, err := unpack(part.from)
			if err != nil {
				return fmt.Errorf("audit %d: %w", a.ID, err)
			}
			*part.to = doc
		}
		p.Items = append(p.Items, &a)
		return nil
	})
	if err != nil {
		return p, fmt.Errorf("list audits: %w", err)
	}
	return p, nil
}

// Versions lists the history of a noun, newest first. kind is that of its
// changes; it goes on after the noun is deleted, until retention ends it.
func (d *DB) Versions(ctx context.Context, s apim.Scope, kind, id string) ([]Version, error) {
	if !s.Valid() {
		return nil, fmt.Errorf("list versions: %w", fault.NotPermitted.With("no tenant in scope"))
	}
	var out []Version
	tenant := string(s.Tenant())
	err := d.each(ctx, `SELECT rev, at, who, action, doc FROM versions
		WHERE kind = $1 AND object = $2 AND ($3 = '' OR tenant = $4) ORDER BY id DESC`,
		[]any{kind, id, tenant, tenant}, func(rows *sql.Rows) error {
			var v Version
			var at int64
			var doc string
			if err := rows.Scan(&v.Rev, &at, &v.Who, &v.Action, &doc); err != nil {
				return err
			}
			v.At, v.Doc = fromMicros(at), apim.BlobRef(doc)
			out = append(out, v)
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("list versions of %s %s: %w", kind, id, err)
	}
	return out, nil
}

// lines joins texts for a column that is only ever read whole.
func lines(s []string) string { return clean(strings.Join(s, "\n")) }

func fromLines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}
