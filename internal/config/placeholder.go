package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// placeholder matches $env{X}, $sys{x.y}, $ref{a.b}, $secret{alias} and ${carbon.home}.
var placeholder = regexp.MustCompile(`\$(env|sys|ref|secret)?\{([^{}]*)\}`)

// resolver replaces placeholders in the values of a load. A value that refers
// to itself is a mistake, not a hang.
type resolver struct {
	raw      map[string]any
	done     map[string]any
	busy     map[string]bool
	env      map[string]string
	sys      map[string]string
	defaults map[string]any
	home     string
	brackets []string // aliases of secrets still in plain brackets
}

// key is the final value of a key, defaults included.
func (r *resolver) key(key string) (any, bool, error) {
	if v, ok := r.done[key]; ok {
		return v, true, nil
	}
	v, ok := r.raw[key]
	if !ok {
		v, ok = r.defaults[key]
	}
	if !ok {
		return nil, false, nil
	}
	if r.busy[key] {
		return nil, false, fmt.Errorf("%s refers to itself", key)
	}
	r.busy[key] = true
	defer delete(r.busy, key)
	v, err := r.value(v)
	if err != nil {
		return nil, false, err
	}
	r.done[key] = v
	return v, true, nil
}

func (r *resolver) value(v any) (any, error) {
	switch v := v.(type) {
	case string:
		return r.text(v)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			x, err := r.value(e)
			if err != nil {
				return nil, err
			}
			out[i] = x
		}
		return out, nil
	}
	return v, nil
}

func (r *resolver) text(s string) (any, error) {
	if !strings.Contains(s, "$") {
		return s, nil
	}
	// A value that is one reference keeps the type of what it refers to.
	if m := placeholder.FindStringSubmatchIndex(s); m != nil && m[0] == 0 && m[1] == len(s) && m[2] >= 0 && s[m[2]:m[3]] == "ref" {
		return r.ref(s[m[4]:m[5]])
	}
	var failed error
	out := placeholder.ReplaceAllStringFunc(s, func(hit string) string {
		m := placeholder.FindStringSubmatch(hit)
		v, err := r.one(m[1], m[2], hit)
		if err != nil && failed == nil {
			failed = err
		}
		return v
	})
	return out, failed
}

func (r *resolver) ref(key string) (any, error) {
	v, ok, err := r.key(theCatalogue().rename(key))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("$ref{%s}: that key has no value", key)
	}
	return v, nil
}

func (r *resolver) one(kind, name, hit string) (string, error) {
	switch kind {
	case "env":
		if v, ok := r.env[name]; ok {
			return v, nil
		}
		return "", fmt.Errorf("environment variable %s is not set", name)
	case "sys":
		if v, ok := r.sys[name]; ok {
			return v, nil
		}
		if v, ok, err := r.builtin(name); ok || err != nil {
			return v, err
		}
		return "", fmt.Errorf("system property %s is not set (give -D%s=... after serve)", name, name)
	case "ref":
		v, err := r.ref(name)
		return asString(v), err
	case "secret":
		v, ok := r.raw["secrets."+name]
		if !ok {
			return "", fmt.Errorf("$secret{%s}: no such alias in [secrets]", name)
		}
		plain, bracketed := strings.CutPrefix(asString(v), "[")
		plain, closed := strings.CutSuffix(plain, "]")
		if !bracketed || !closed {
			return "", fmt.Errorf("$secret{%s}: ciphertext of the original's tool cannot be read yet; write the value in [brackets]", name)
		}
		r.brackets = append(r.brackets, name)
		return plain, nil
	default:
		v, ok, err := r.builtin(name)
		if !ok && err == nil {
			return hit, nil // not one of ours: text
		}
		return v, err
	}
}

// builtin is the original's built-in properties; ports include the offset.
func (r *resolver) builtin(name string) (string, bool, error) {
	if base, ok := builtinPorts[name]; ok {
		n := base.port
		for _, key := range base.keys {
			if v, ok, err := r.key(key); err != nil {
				return "", false, err
			} else if ok {
				if p, err := asInt(v); err == nil {
					n = int(p)
				}
				break
			}
		}
		off, _, err := r.key("server.offset")
		if err != nil {
			return "", false, err
		}
		o, _ := asInt(off)
		return strconv.Itoa(n + int(o)), true, nil
	}
	get := func(key string) (string, bool, error) {
		v, ok, err := r.key(key)
		return asString(v), ok && err == nil, err
	}
	switch name {
	case "carbon.home":
		return r.home, true, nil
	case "carbon.host":
		return get("server.hostname")
	case "carbon.local.ip":
		return "127.0.0.1", true, nil
	case "carbon.protocol":
		return "https", true, nil
	case "carbon.context":
		return "/", true, nil
	case "admin.username":
		return get("super_admin.username")
	case "admin.password":
		return get("super_admin.password")
	}
	return "", false, nil
}

var builtinPorts = map[string]struct {
	port int
	keys []string
}{
	"carbon.management.port":   {9443, []string{"transport.https.properties.port"}},
	"mgt.transport.https.port": {9443, []string{"transport.https.properties.port"}},
	"mgt.transport.http.port":  {9763, []string{"transport.http.properties.port"}},
	"https.nio.port":           {8243, []string{"transport.http.listener.secured_port"}},
	"http.nio.port":            {8280, []string{"transport.http.listener.port"}},
	"jms.port":                 {5672, nil},
	"receiver.url.port":        {9611, nil},
	"auth.url.port":            {9711, nil},
}
