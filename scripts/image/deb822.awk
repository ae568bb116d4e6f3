# Prints the stanzas of a .sources file that are for Debian's own archive and the wanted suite
# (bookworm, bookworm-updates, bookworm-security), with Signed-By set to Debian's keyring.
BEGIN { RS = ""; FS = "\n" }
{
  body = ""; signed = ""; uris = ""; suites = ""; types = ""; components = ""; enabled = "yes"; key = ""
  for (i = 1; i <= NF; i++) {
    if ($i ~ /^#/) continue
    if ($i ~ /^[ \t]/) { if (key == "signed-by") signed = signed " inline"; else body = body $i "\n"; continue }
    split($i, part, ":"); key = tolower(part[1])
    value = substr($i, index($i, ":") + 1)
    if (key == "signed-by") { signed = value; continue }
    if (key == "uris") uris = value
    if (key == "types") { types = value; $i = "Types: deb" }
    if (key == "enabled") enabled = tolower(value)
    if (key == "components") components = value
    if (key == "suites") {
      n = split(value, all, /[ \t]+/); suites = ""
      for (j = 1; j <= n; j++)
        if (all[j] == suite || all[j] == suite "-updates" || all[j] == suite "-security") suites = suites " " all[j]
      $i = "Suites:" suites
    }
    body = body $i "\n"
  }
  if (suites == "" || types !~ /deb( |$)/ || enabled ~ /no/) next
  ours = signed ~ /debian-archive/ ||
         (signed == "" && components ~ /(^| )main( |$)/ && uris ~ /\/debian(-security)?\/?( |$)|debian\.org/)
  if (ours) printf "%sSigned-By: %s\n\n", body, keyring
}
