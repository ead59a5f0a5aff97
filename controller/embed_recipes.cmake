# cmake -DOUTPUT=builtin_recipes.cc -DRECIPES="a.yaml;b.yaml" -DCOMPAT=compat.yaml -P embed_recipes.cmake
# Writes the list of built-in recipes and the table of GPUs, so that the controller is one file.
set(rows "")
foreach(recipe IN LISTS RECIPES)
  get_filename_component(name "${recipe}" NAME_WE)
  file(READ "${recipe}" text)
  string(APPEND rows "      {\"${name}\", R\"gpustrap(${text})gpustrap\"},\n")
endforeach()
file(READ "${COMPAT}" compat)
file(WRITE "${OUTPUT}" "#include \"controller/compat_loader.h\"
#include \"controller/recipe_sources.h\"

namespace gpustrap {

const std::vector<BuiltinRecipe>& builtin_recipes() {
  static const std::vector<BuiltinRecipe> all = {
${rows}  };
  return all;
}

std::string_view builtin_compat() { return R\"gpustrap(${compat})gpustrap\"; }

}  // namespace gpustrap
")
