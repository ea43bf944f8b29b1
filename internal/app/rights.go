package app

import (
	"github.com/cardea-apim/cardea/internal/bus"
	"github.com/cardea-apim/cardea/internal/config"
	"github.com/cardea-apim/cardea/internal/traffic"
	"github.com/cardea-apim/cardea/internal/usage"
)

// busRights are what a node with these roles may do on the bus of this process.
func busRights(node string, roles []string) (r bus.Rights) {
	for _, role := range roles {
		switch config.Role(role) {
		case config.Gateway:
			publish, subscribe := traffic.GatewaySubjects(node)
			r.Publish = append(append(r.Publish, publish...), usage.SubjectBatch, subjectPassword, subjectToken)
			r.Subscribe = append(r.Subscribe, subscribe...)
		case config.Traffic:
			publish, subscribe := traffic.HubSubjects()
			r.Publish = append(r.Publish, publish...)
			r.Subscribe = append(r.Subscribe, subscribe...)
		case config.Analytics:
			r.Answer = append(r.Answer, usage.SubjectBatch, subjectAsk)
		case config.Identity:
			r.Answer = append(r.Answer, subjectPassword, subjectToken)
		case config.Control:
			r.Publish = append(r.Publish, subjectAsk)
		}
	}
	return r
}
