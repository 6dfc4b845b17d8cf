package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// YAML writes the configuration as a file that Load reads back to the same values: every leaf, in the order of Fields. It holds names
// of files with secrets, never a secret.
func (c Config) YAML() string {
	var b strings.Builder
	section := ""
	for _, f := range fields {
		name, leaf, nested := strings.Cut(f.Key, ".")
		switch {
		case !nested:
			fmt.Fprintf(&b, "%s: %s\n", f.Key, yamlScalar(c.leaf(f.Key)))
			continue
		case name != section:
			section = name
			fmt.Fprintf(&b, "%s:\n", name)
		}
		fmt.Fprintf(&b, "  %s: %s\n", leaf, yamlScalar(c.leaf(f.Key)))
	}
	return b.String()
}

// Tree is the configuration as Load reads it from a JSON file: sections are maps, durations text.
func (c Config) Tree() map[string]any {
	tree := map[string]any{}
	for _, f := range fields {
		value := c.leaf(f.Key)
		if d, ok := value.(time.Duration); ok {
			value = d.String()
		}
		name, leaf, nested := strings.Cut(f.Key, ".")
		if !nested {
			tree[f.Key] = value
			continue
		}
		section, ok := tree[name].(map[string]any)
		if !ok {
			section = map[string]any{}
			tree[name] = section
		}
		section[leaf] = value
	}
	return tree
}

// leaf is the value of a key of Fields.
func (c Config) leaf(key string) any {
	v := reflect.ValueOf(c)
	for part := range strings.SplitSeq(key, ".") {
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("mapstructure") == part {
				v = v.Field(i)
				break
			}
		}
	}
	return v.Interface()
}

func yamlScalar(v any) string {
	if s, ok := v.(string); ok {
		text, _ := json.Marshal(s) // a JSON string is a YAML string
		return string(text)
	}
	return fmt.Sprint(v)
}

// Changed lists the keys whose values differ, in the order of Fields.
func Changed(a, b Config) (keys []string) {
	for _, f := range fields {
		if a.leaf(f.Key) != b.leaf(f.Key) {
			keys = append(keys, f.Key)
		}
	}
	return keys
}
