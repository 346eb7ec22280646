// Package lint holds the rules of the code as checks that a test can run.
//
// A rule is a function from parsed files to complaints, so that each can be
// tried on a few lines of bad source as well as on the whole project:
//
//   - floors: imports point down, and each heavy dependency has one home;
//   - purity: core files start nothing, wait for nothing and ask nobody the time;
//   - ceilings: the length of files and functions;
//   - docs: one package comment per package, in the usual form;
//   - words: declared names keep to the glossary.
//
// Which files are shells is written in one list, with the reason for each.
package lint
