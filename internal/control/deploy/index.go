package deploy

import (
	"encoding/json"
	"fmt"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// controlEnv is an environment that no gateway has: its items are notes of the
// relay to itself.
const controlEnv = "~control"

// nameKey is a name of an API in an environment, which has one default version.
type nameKey struct {
	tenant apim.TenantID
	name   string
	env    string
}

type mappingKey struct{ application, keyManager, keyType string }

// index is what the relay remembers of the published items, to know what a
// change leaves behind: the former hash of a regenerated key, the environments
// an API was in, the version that has the default path.
type index struct {
	apis     map[apim.APIID]map[string]nameKey // by environment
	defaults map[nameKey]apim.APIID
	keys     map[mappingKey]string // to the id of the item
	apiKeys  map[string]string     // key id to hash
	revision int                   // of the translation, 0: unknown
	carry    []snapshot.Item       // to be published with the next change
}

func newIndex() *index {
	return &index{
		apis:     map[apim.APIID]map[string]nameKey{},
		defaults: map[nameKey]apim.APIID{},
		keys:     map[mappingKey]string{},
		apiKeys:  map[string]string{},
	}
}

func (x *index) environments(id apim.APIID) []string {
	var out []string
	for e := range x.apis[id] {
		out = append(out, e)
	}
	return out
}

func (x *index) nameOf(id apim.APIID, env string) (nameKey, bool) {
	n, ok := x.apis[id][env]
	return n, ok
}

// published takes note of items that are in the log now.
func (x *index) published(items []snapshot.Item) error {
	for i := range items {
		it := &items[i]
		if it.Deleted {
			x.dropped(it.Key)
			continue
		}
		if err := x.noted(it); err != nil {
			return fmt.Errorf("read published item %s: %w", it.Key, err)
		}
	}
	return nil
}

func (x *index) dropped(k snapshot.Key) {
	switch k.Kind {
	case snapshot.KindAPI:
		id := apim.APIID(k.ID)
		n := x.apis[id][k.Env]
		if x.defaults[n] == id {
			delete(x.defaults, n)
		}
		delete(x.apis[id], k.Env)
		if len(x.apis[id]) == 0 {
			delete(x.apis, id)
		}
	case snapshot.KindAPIKey:
		// Nobody asks for a dropped hash; its id may have a new one already.
	}
}

func (x *index) noted(it *snapshot.Item) error {
	switch it.Kind {
	case snapshot.KindAPI:
		var a struct {
			Tenant  string `json:"tenant"`
			Name    string `json:"name"`
			Default bool   `json:"default"`
		}
		if err := json.Unmarshal(it.Body, &a); err != nil {
			return err
		}
		id, n := apim.APIID(it.ID), nameKey{apim.TenantID(a.Tenant), a.Name, it.Env}
		if x.apis[id] == nil {
			x.apis[id] = map[string]nameKey{}
		}
		x.apis[id][it.Env] = n
		if a.Default {
			x.defaults[n] = id
		} else if x.defaults[n] == id {
			delete(x.defaults, n)
		}
	case snapshot.KindKey:
		var k snapshot.KeyMapping
		if err := json.Unmarshal(it.Body, &k); err != nil {
			return err
		}
		x.keys[mappingKey{k.Application, k.KeyManager, k.KeyType}] = it.ID
	case snapshot.KindAPIKey:
		var k struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(it.Body, &k); err != nil {
			return err
		}
		x.apiKeys[k.ID] = it.ID
	case kindNote:
		var n note
		if err := json.Unmarshal(it.Body, &n); err != nil {
			return err
		}
		x.revision = n.Revision
	}
	return nil
}

// kindNote is the kind of the relay's own notes.
const kindNote snapshot.Kind = "note"

type note struct {
	Revision int `json:"revision"`
}

var noteKey = snapshot.Key{Kind: kindNote, ID: "translation", Env: controlEnv}
