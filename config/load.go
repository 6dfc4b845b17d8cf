package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Source says where a loaded configuration came from.
type Source struct {
	File string // "" if none was read
}

// Load reads the configuration. Order: flag, environment, file, default. The error names every fault; the Config is of use only
// without one.
func Load(flags *pflag.FlagSet) (Config, Source, error) {
	v := viper.New()
	v.SetEnvPrefix(envPrefix)
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_", "-", "_"))
	v.AutomaticEnv()
	for _, f := range fields {
		v.SetDefault(f.Key, f.Default)
		if flags != nil && flags.Lookup(Flag(f.Key)) != nil {
			if err := v.BindPFlag(f.Key, flags.Lookup(Flag(f.Key))); err != nil {
				return Config{}, Source{}, err
			}
		}
	}
	var src Source
	var faults []error
	file, err := findFile(flags)
	if src.File = file; err == nil && file != "" {
		faults, err = readFile(v, file)
	}
	if err != nil {
		faults = append(faults, err)
	}
	bad := map[string]bool{} // keys without a value to check further
	for _, f := range fields {
		value := v.Get(f.Key)
		if section, ok := value.(map[string]any); value == nil || ok && len(section) > 0 {
			v.Set(f.Key, f.Default) // keys above or below this one were said; they are unknown
			continue
		}
		value, err := typed(f, value)
		if err != nil {
			bad[f.Key] = true
			faults = append(faults, fmt.Errorf("%s: %w", saidBy(v, flags, file, f.Key), err))
			value = f.Default
		}
		v.Set(f.Key, value)
	}
	var c Config
	if err := v.Unmarshal(&c); err != nil {
		return Config{}, src, fmt.Errorf("configuration: %w", err)
	}
	if err == nil { // else what the file says is not known, and faults of the whole would mislead
		faults = append(faults, c.check(bad)...)
	}
	return c, src, errors.Join(faults...)
}

// saidBy names what gave a key its value.
func saidBy(v *viper.Viper, flags *pflag.FlagSet, file, key string) string {
	switch {
	case flags != nil && flags.Changed(Flag(key)):
		return "--" + Flag(key)
	case os.Getenv(Env(key)) != "":
		return Env(key)
	case v.InConfig(key):
		return fmt.Sprintf("configuration file %s: %s", file, key)
	}
	return key
}

// typed reads a value, of which a file or the environment may have made anything, as f's type.
func typed(f Field, value any) (any, error) {
	text, isText := value.(string)
	if number, ok := value.(float64); ok { // every number of a JSON file
		text = strconv.FormatFloat(number, 'f', -1, 64)
	} else if !isText {
		text = fmt.Sprint(value)
	}
	var out any
	var err error
	var want string
	switch f.Default.(type) {
	case string:
		if want = "text: put it in quotes"; !isText {
			err = strconv.ErrSyntax
		}
		out = text
	case uint64:
		want = "a whole number from 0 on"
		out, err = strconv.ParseUint(text, 10, 64)
	case int:
		want = "a whole number"
		out, err = strconv.Atoi(text)
	case bool:
		want = "true or false"
		out, err = strconv.ParseBool(text)
	case time.Duration:
		want = "a duration with its unit, such as 100ms or 1s"
		out, err = time.ParseDuration(text)
	}
	if err != nil {
		return nil, fmt.Errorf("%q: want %s", text, want)
	}
	return out, nil
}

func findFile(flags *pflag.FlagSet) (string, error) {
	if flags != nil {
		if f, _ := flags.GetString("config"); f != "" {
			return f, nil
		}
	}
	if f := os.Getenv(envPrefix + "_CONFIG"); f != "" {
		return f, nil
	}
	candidates := []string{"lograft.yaml"}
	if dir, err := os.UserConfigDir(); err == nil {
		candidates = append(candidates, filepath.Join(dir, "lograft", "lograft.yaml"))
	}
	for _, f := range append(candidates, "/etc/lograft/lograft.yaml") {
		_, err := os.Stat(f)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return f, fmt.Errorf("configuration file %s: %w", f, err)
		}
	}
	return "", nil
}

// readFile reads a file into v. It gives a fault for every key that is no leaf; err says that the file can't be read at all.
func readFile(v *viper.Viper, file string) (faults []error, err error) {
	if _, err := os.Stat(file); err != nil {
		return nil, fmt.Errorf("configuration file: %w: name one that is there", err)
	}
	only := viper.New() // v lists the defaults' keys too
	for _, each := range []*viper.Viper{only, v} {
		each.SetConfigFile(file)
		if err := each.ReadInConfig(); err != nil {
			return nil, fmt.Errorf("configuration file %s: %w", file, err)
		}
	}
	keys := only.AllKeys()
	slices.Sort(keys)
	for _, key := range keys {
		if !slices.ContainsFunc(fields, func(f Field) bool { return f.Key == key }) {
			faults = append(faults, fmt.Errorf("configuration file %s: unknown key %q: see broker config show for all keys", file, key))
		}
	}
	return faults, nil
}
