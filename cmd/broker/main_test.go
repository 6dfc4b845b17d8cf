package main

import (
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lograft/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// change gives v another value than it has.
func change(t *testing.T, v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *string:
		*x += "1=h:1,2=h:2"
	case *bool:
		*x = !*x
	case *uint64:
		*x += 6
	case *int:
		*x += 6
	case *time.Duration:
		*x += 6 * time.Second
	default:
		t.Fatalf("a leaf of type %v: teach this test to change it", v.Type())
	}
}

// Every leaf of the configuration reaches the broker: changing it alone changes the broker's options.
func TestEveryLeafReachesTheBroker(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	var walk func(path []int, in reflect.Type, name string)
	walk = func(path []int, in reflect.Type, name string) {
		for i := range in.NumField() {
			at, key := append(append([]int(nil), path...), i), name+in.Field(i).Tag.Get("mapstructure")
			if in.Field(i).Type.Kind() == reflect.Struct {
				walk(at, in.Field(i).Type, key+".")
				continue
			}
			if strings.HasPrefix(key, "log.") {
				continue // the logger is made of it
			}
			var c config.Config
			before, err := options(c, log)
			if err != nil {
				t.Fatal(err)
			}
			change(t, reflect.ValueOf(&c).Elem().FieldByIndex(at))
			after, err := options(c, log)
			if err != nil {
				t.Errorf("%s: %v", key, err)
			}
			if reflect.DeepEqual(before, after) {
				t.Errorf("%s does not reach the broker", key)
			}
		}
	}
	walk(nil, reflect.TypeFor[config.Config](), "")
}

// Members that can't be read are an error, not a cluster without them.
func TestBadMembers(t *testing.T) {
	if _, err := options(config.Config{InitialCluster: "1"}, nil); err == nil || !strings.Contains(err.Error(), "initial-cluster") {
		t.Errorf("%v", err)
	}
}
