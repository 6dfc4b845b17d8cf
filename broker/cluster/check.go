package cluster

import "fmt"

// CheckTopicName says what is wrong with a topic's name; the rule is Kafka's.
func CheckTopicName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a topic needs a name")
	case name == "." || name == "..":
		return fmt.Errorf("a topic can't be named %q", name)
	case len(name) > topicNameBytesMax:
		return fmt.Errorf("a topic's name of %d bytes: at most %d", len(name), topicNameBytesMax)
	}
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return fmt.Errorf("topic name %q: only letters, digits, '.', '_' and '-' are possible", name)
		}
	}
	return nil
}
