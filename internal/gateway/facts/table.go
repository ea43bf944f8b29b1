// Package facts holds what a gateway knows besides APIs: applications, keys,
// subscriptions, policies, key managers, revocations. Tables are immutable and
// share what did not change, so a call sees one state from first to last and a
// change costs a small part of a table.
package facts

import (
	"hash/maphash"
	"maps"
)

const shardBits = 8

var seed = maphash.MakeSeed()

// Table is an immutable map. The zero value is empty.
type Table[K comparable, V any] struct {
	shards *[1 << shardBits]map[K]V
	n      int
}

func shardOf[K comparable](k K) uint64 { return maphash.Comparable(seed, k) >> (64 - shardBits) }

// Get looks k up.
func (t Table[K, V]) Get(k K) (v V, ok bool) {
	if t.shards == nil {
		return v, false
	}
	v, ok = t.shards[shardOf(k)][k]
	return v, ok
}

// Len is the number of entries.
func (t Table[K, V]) Len() int { return t.n }

// Each calls fn for every entry until it returns false, in no order.
func (t Table[K, V]) Each(fn func(K, V) bool) {
	if t.shards == nil {
		return
	}
	for _, m := range t.shards {
		for k, v := range m {
			if !fn(k, v) {
				return
			}
		}
	}
}

// Edit is a table being changed: each part is copied when it is first changed.
// It belongs to one goroutine.
type Edit[K comparable, V any] struct {
	base   Table[K, V]
	shards *[1 << shardBits]map[K]V
	own    [1 << shardBits]bool
	n      int
}

// Begin starts a changed copy of t.
func Begin[K comparable, V any](t Table[K, V]) *Edit[K, V] { return &Edit[K, V]{base: t, n: t.n} }

func (e *Edit[K, V]) shard(k K) map[K]V {
	if e.shards == nil {
		e.shards = new([1 << shardBits]map[K]V)
		if e.base.shards != nil {
			*e.shards = *e.base.shards
		}
	}
	i := shardOf(k)
	if !e.own[i] {
		m := make(map[K]V, len(e.shards[i])+1)
		maps.Copy(m, e.shards[i])
		e.shards[i], e.own[i] = m, true
	}
	return e.shards[i]
}

// Set binds k to v.
func (e *Edit[K, V]) Set(k K, v V) {
	m := e.shard(k)
	before := len(m)
	m[k] = v
	e.n += len(m) - before
}

// Delete removes k.
func (e *Edit[K, V]) Delete(k K) {
	m := e.shard(k)
	before := len(m)
	delete(m, k)
	e.n += len(m) - before
}

// Done is the new table, or the old one if nothing changed.
func (e *Edit[K, V]) Done() Table[K, V] {
	if e.shards == nil {
		return e.base
	}
	return Table[K, V]{shards: e.shards, n: e.n}
}
