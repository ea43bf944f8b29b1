package deploy

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

const day = 24 * time.Hour

// window is the length of a quota's window. Units are stored as clients sent
// them, unchecked, so that singular, plural and short forms all occur; what is
// not known counts as minutes, the product's own default.
func window(unit string, n int) time.Duration {
	per := time.Minute
	switch u := strings.ToLower(strings.TrimSpace(unit)); strings.TrimSuffix(u, "s") {
	case "sec", "second", "":
		if u != "" {
			per = time.Second
		}
	case "hour", "hr", "h":
		per = time.Hour
	case "day", "d":
		per = day
	case "week":
		per = 7 * day
	case "month":
		per = 30 * day // a fixed length, as in the original
	case "year":
		per = 365 * day
	}
	n = max(n, 1)
	if time.Duration(n) > math.MaxInt64/per {
		return math.MaxInt64
	}
	return time.Duration(n) * per
}

// limitOf translates a quota. A count of 2147483647 means no limit, as does
// none at all.
func limitOf(l apim.Limit) snapshot.Limit {
	out := snapshot.Limit{Window: window(l.TimeUnit, l.UnitTime)}
	switch l.Type {
	case "BANDWIDTHLIMIT":
		unit := int64(1)
		switch strings.ToUpper(l.DataUnit) {
		case "KB":
			unit = 1 << 10
		case "MB":
			unit = 1 << 20
		case "GB":
			unit = 1 << 30
		}
		if l.Data >= apim.Unlimited || l.Data > math.MaxInt64/unit {
			return snapshot.Limit{Unlimited: true}
		}
		out.Bytes = l.Data * unit
	case "AIAPIQUOTALIMIT":
		var q struct {
			RequestCount int64  `json:"requestCount"`
			TimeUnit     string `json:"timeUnit"`
			UnitTime     int    `json:"unitTime"`
		}
		if json.Unmarshal(l.AI, &q) == nil {
			out.Count = q.RequestCount
			if q.TimeUnit != "" {
				out.Window = window(q.TimeUnit, q.UnitTime)
			}
		}
	default: // REQUESTCOUNTLIMIT, EVENTCOUNTLIMIT
		out.Count = l.Count
	}
	if out.Count >= apim.Unlimited || (out.Count <= 0 && out.Bytes <= 0) {
		return snapshot.Limit{Unlimited: true}
	}
	return out
}

// policyKind is the kind of item of a level.
func policyKind(l apim.PolicyLevel) (snapshot.Kind, bool) {
	switch l {
	case apim.AppLevel:
		return snapshot.KindAppPolicy, true
	case apim.SubLevel:
		return snapshot.KindSubPolicy, true
	case apim.APILevel:
		return snapshot.KindAPIPolicy, true
	}
	return "", false
}

func policyKey(kind snapshot.Kind, tenant apim.TenantID, name string) snapshot.Key {
	return snapshot.Key{Kind: kind, ID: string(tenant) + "/" + name}
}

func policyItem(p *apim.ThrottlePolicy) (snapshot.Item, error) {
	kind, ok := policyKind(p.Level)
	if !ok {
		return snapshot.Item{}, fmt.Errorf("policy %s has the unknown level %q: %w", p.Name, p.Level, errUntranslatable)
	}
	out := snapshot.Policy{
		Tenant:  string(p.Tenant),
		Name:    p.Name,
		Limit:   limitOf(p.Limit),
		PerUser: p.PerUser,
		// Only business plans may let calls over the quota pass.
		StopOnQuota: p.StopOnQuota || p.Level != apim.SubLevel,
	}
	switch unit := strings.ToLower(p.BurstUnit); {
	case p.BurstCount <= 0 || p.BurstCount >= apim.Unlimited:
	case strings.HasPrefix(unit, "sec"):
		out.BurstCount, out.BurstUnit = p.BurstCount, "sec"
	case strings.HasPrefix(unit, "min"):
		out.BurstCount, out.BurstUnit = p.BurstCount, "min"
	}
	if p.Level == apim.APILevel {
		groups, err := conditionGroups(p.Groups)
		if err != nil {
			return snapshot.Item{}, fmt.Errorf("policy %s: %w: %w", p.Name, errUntranslatable, err)
		}
		out.Groups = groups
	}
	return snapshot.Make(policyKey(kind, p.Tenant, p.Name), out)
}

// conditionGroups reads conditionalGroups as the admin API sends them.
func conditionGroups(raw json.RawMessage) ([]snapshot.ConditionGroup, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var groups []struct {
		Limit struct {
			Type         string
			RequestCount *quota
			Bandwidth    *quota
			EventCount   *quota
		}
		Conditions []struct {
			Type   string
			Invert bool `json:"invertCondition"`
			IP     *struct {
				Type  string `json:"ipConditionType"`
				IP    string `json:"specificIP"`
				Start string `json:"startingIP"`
				End   string `json:"endingIP"`
			} `json:"ipCondition"`
			Header *struct {
				Name  string `json:"headerName"`
				Value string `json:"headerValue"`
			} `json:"headerCondition"`
			Query *struct {
				Name  string `json:"parameterName"`
				Value string `json:"parameterValue"`
			} `json:"queryParameterCondition"`
			Claim *struct {
				Name  string `json:"claimUrl"`
				Value string `json:"attribute"`
			} `json:"jwtClaimsCondition"`
		}
	}
	if err := json.Unmarshal(raw, &groups); err != nil {
		return nil, fmt.Errorf("read conditional groups: %w", err)
	}
	var out []snapshot.ConditionGroup
	for _, g := range groups {
		l := apim.Limit{Type: g.Limit.Type}
		for _, q := range []*quota{g.Limit.RequestCount, g.Limit.Bandwidth, g.Limit.EventCount} {
			if q != nil {
				l.Count, l.Data, l.DataUnit = q.RequestCount+q.EventCount, q.Data, q.DataUnit
				l.TimeUnit, l.UnitTime = q.TimeUnit, q.UnitTime
			}
		}
		to := snapshot.ConditionGroup{Limit: limitOf(l)}
		for _, c := range g.Conditions {
			sc := snapshot.Condition{Invert: c.Invert}
			switch {
			case c.IP != nil && strings.EqualFold(c.IP.Type, "IPRANGE"):
				sc.Type, sc.Value, sc.To = "IPRANGE", c.IP.Start, c.IP.End
			case c.IP != nil:
				sc.Type, sc.Value = "IP", c.IP.IP
			case c.Header != nil:
				sc.Type, sc.Name, sc.Value = "HEADER", c.Header.Name, c.Header.Value
			case c.Query != nil:
				sc.Type, sc.Name, sc.Value = "QUERY", c.Query.Name, c.Query.Value
			case c.Claim != nil:
				sc.Type, sc.Name, sc.Value = "CLAIM", c.Claim.Name, c.Claim.Value
			default:
				return nil, fmt.Errorf("a condition of type %q has no content", c.Type)
			}
			to.Conditions = append(to.Conditions, sc)
		}
		out = append(out, to)
	}
	return out, nil
}

type quota struct {
	RequestCount int64  `json:"requestCount"`
	EventCount   int64  `json:"eventCount"`
	Data         int64  `json:"dataAmount"`
	DataUnit     string `json:"dataUnit"`
	TimeUnit     string `json:"timeUnit"`
	UnitTime     int    `json:"unitTime"`
}
