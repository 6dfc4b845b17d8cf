// Package lint holds the rules of the house that a compiler does not know, as tests over the source tree: which package may import
// which, how long a file may be, where time, chance and goroutines may come from, and that goroutines are looked for when tests end.
//
// Every rule is a function from parsed files to findings, stands next to its reason, and is tested on a sample that breaks it.
//
// Limitations: the rules see syntax, not types: a clock behind an interface or a renamed method value is not seen. Imports under a
// build tag count as if the tag were set.
package lint
