package report

import (
	"github.com/cardea-apim/cardea/internal/usage"
)

// Bounds of the texts that are kept of a call, bytes.
const (
	maxPath  = 512
	maxAgent = 256
	maxID    = 256
)

// raw are calls as they were reported, in room that is used again and again:
// noting one allocates nothing. What it becomes for others is made when it is
// sent.
type raw struct {
	list []kept
	text []byte // of all their paths, agents and ids
}

// kept is a call. Its record's own texts of that kind are empty.
type kept struct {
	Record
	path, agent, id uint16 // lengths
	at              int    // where they begin
}

func (c *raw) add(r *Record) {
	k := kept{Record: *r, at: len(c.text)}
	k.path, k.agent, k.id = c.keep(r.Path, maxPath), c.keep(r.UserAgent, maxAgent), c.keep(r.ID, maxID)
	k.Path, k.UserAgent, k.ID, k.Decision = "", "", "", nil
	c.list = append(c.list, k)
}

func (c *raw) keep(s string, limit int) uint16 {
	s = s[:min(len(s), limit)]
	c.text = append(c.text, s...)
	return uint16(len(s))
}

// call is a copy of the call at i.
func (c *raw) call(i int) usage.Call {
	r := &c.list[i]
	from := r.at
	next := func(n uint16) string {
		s := string(c.text[from : from+int(n)])
		from += int(n)
		return s
	}
	path, agent, id := next(r.path), next(r.agent), next(r.id)
	out := usage.Call{
		Time: r.Time, ID: id, Tenant: r.Source.Tenant, API: r.Source.API, APIName: r.Source.Name, APIVersion: r.Source.Version,
		Application: r.Application, User: r.User, Operation: r.Operation, Verb: r.Verb, Path: path,
		Status: r.Status, Code: r.Code, KeyType: r.KeyType, Gateway: r.Gateway, Backend: r.Backend,
		BytesIn: r.BytesIn, BytesOut: r.BytesOut, UserAgent: agent,
	}
	if r.Client.IsValid() {
		out.Client = r.Client.String()
	}
	return out
}

// reset leaves the room for other calls, without what they pointed to.
func (c *raw) reset() {
	clear(c.list)
	c.list, c.text = c.list[:0], c.text[:0]
}
