//go:build !linux

package main

func delayTimers() {}
