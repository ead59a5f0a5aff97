# cmake -DOUTPUT=builtin_recipes.cc -DRECIPES="a.yaml;b.yaml" -P embed_recipes.cmake
# Writes the list of built-in recipes, so that the controller is one file.
set(rows "")
foreach(recipe IN LISTS RECIPES)
  get_filename_component(name "${recipe}" NAME_WE)
  file(READ "${recipe}" text)
  string(APPEND rows "      {\"${name}\", R\"gpustrap(${text})gpustrap\"},\n")
endforeach()
file(WRITE "${OUTPUT}" "#include \"controller/recipe_sources.h\"

namespace gpustrap {

const std::vector<BuiltinRecipe>& builtin_recipes() {
  static const std::vector<BuiltinRecipe> all = {
${rows}  };
  return all;
}

}  // namespace gpustrap
")
