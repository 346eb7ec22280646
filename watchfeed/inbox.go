package watchfeed

// AppendStep adds a step to those that a core has not seen. Without room what
// the step applied is forgotten, but not where: the core then reads it from the
// engine.
func AppendStep(steps []Step, s Step, room bool) []Step {
	if room || len(steps) == 0 {
		return append(steps, s)
	}
	s.lose()
	steps[len(steps)-1].merge(&s)
	return steps
}
