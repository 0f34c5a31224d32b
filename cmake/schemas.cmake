# Writes OUT, the C table behind io/schema.h, from the Avro schemas in the list SCHEMAS. A schema's name is the one
# that it declares.
set(text "/* Generated from io/schemas by cmake/schemas.cmake. */\n#include \"io/schema.h\"\n\n#include <string.h>\n\n")
set(names "")
set(rows "")
foreach(file ${SCHEMAS})
  file(READ ${file} json)
  string(JSON name GET "${json}" name)
  file(READ ${file} bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(REPEAT "0x..," 16 line)
  string(REGEX REPLACE "(${line})" "\\1\n\t" bytes "${bytes}")
  string(APPEND text "static const char json_${name}[] = {\n\t${bytes}0\n};\n\n")
  string(APPEND names "\"${name}\", ")
  string(APPEND rows "\tif (strcmp(name, \"${name}\") == 0)\n\t\treturn json_${name};\n")
endforeach()
string(APPEND text "static const char *const names[] = { ${names}NULL };\n\n"
  "const char *const *schema_names(void)\n{\n\treturn names;\n}\n\n"
  "const char *schema_json(const char *name)\n{\n${rows}\treturn NULL;\n}\n")
file(WRITE ${OUT} "${text}")
