package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The original reads "true", "50", 50, "15m", 900, ["a","b"] and "a,b" where a
// bool, a number, a duration or a list is meant; so do we.

func asString(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = asString(e)
		}
		return strings.Join(parts, ",")
	default:
		return fmt.Sprint(v)
	}
}

func asBool(v any) (bool, error) {
	if b, ok := v.(bool); ok {
		return b, nil
	}
	switch strings.ToLower(strings.TrimSpace(asString(v))) {
	case "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0", "":
		return false, nil
	}
	return false, fmt.Errorf("want true or false")
}

func asInt(v any) (int64, error) {
	switch v := v.(type) {
	case int64:
		return v, nil
	case float64:
		if v == float64(int64(v)) {
			return int64(v), nil
		}
	case string:
		if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("want a whole number")
}

func asList(v any) ([]string, error) {
	var out []string
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if _, nested := e.([]any); nested {
				return nil, fmt.Errorf("want a list of texts")
			}
			out = append(out, strings.TrimSpace(asString(e)))
		}
	case string:
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
	default:
		out = []string{asString(v)}
	}
	return out, nil
}

var units = map[string]time.Duration{
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
}

// asDuration reads 900, "900", "900s", "15m", "1h", "1d"; a bare number is in
// the unit of its key. A negative number means "none" and stays negative.
func asDuration(v any, unit string) (time.Duration, error) {
	s := strings.TrimSpace(asString(v))
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	suffix := strings.ToLower(strings.TrimSpace(s[len(digits):]))
	if suffix == "" {
		suffix = unit
	}
	n, err := strconv.ParseFloat(digits, 64)
	per, ok := units[suffix]
	if err != nil || !ok || n*float64(per) > float64(1<<62) || n*float64(per) < -float64(1<<62) {
		if d, err := time.ParseDuration(s); err == nil {
			return d, nil
		}
		return 0, fmt.Errorf("want a duration such as 900, %q, %q, %q or %q", "900s", "15m", "1h", "1d")
	}
	return time.Duration(n * float64(per)), nil
}

// check reports whether a value can be read as the type of its row.
func check(typ string, v any) (err error) {
	switch typ {
	case "b":
		_, err = asBool(v)
	case "i":
		_, err = asInt(v)
	case "l":
		_, err = asList(v)
	case "s":
		if _, isList := v.([]any); isList {
			err = fmt.Errorf("want a text")
		}
	default:
		if unit, ok := strings.CutPrefix(typ, "d:"); ok {
			_, err = asDuration(v, unit)
		}
	}
	return err
}
