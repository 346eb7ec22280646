// Package config is what an operator may say about a node: flags with etcd's
// names, meanings and defaults, the same as environment variables, and a few of
// our own.
//
// A value comes from the command line, else from FLOTILLA_<NAME>, else from
// ETCD_<NAME>, else it is the default. No flag of etcd's is silently without
// effect where somebody could rely on it: flags.go sorts them into those that
// mean the same here, those whose subject does not exist here and which change
// nothing that a client could see (taken and ignored), and those that are
// refused unless they keep their default, with a word on what to do.
package config
