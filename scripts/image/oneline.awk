# The same as deb822.awk for sources.list: prints what it keeps as deb822 stanzas.
/^[ \t]*deb[ \t]/ {
  line = $0; sub(/#.*/, "", line); options = ""
  if (match(line, /\[[^]]*\]/)) {
    options = substr(line, RSTART + 1, RLENGTH - 2)
    line = substr(line, 1, RSTART - 1) substr(line, RSTART + RLENGTH)
  }
  n = split(line, word, /[ \t]+/); first = (word[1] == "") ? 2 : 1
  uri = word[first + 1]; name = word[first + 2]; components = ""
  for (i = first + 3; i <= n; i++) if (word[i] != "") components = components " " word[i]
  if (name != suite && name != suite "-updates" && name != suite "-security") next
  ours = options ~ /debian-archive/ ||
         (options !~ /signed-by/ && components ~ / main( |$)/ && uri ~ /\/debian(-security)?\/?$|debian\.org/)
  if (!ours) next
  extra = ""
  if (options ~ /check-valid-until=no/) extra = "Check-Valid-Until: no\n"
  printf "Types: deb\nURIs: %s\nSuites: %s\nComponents:%s\n%sSigned-By: %s\n\n", uri, name, components, extra, keyring
}
