# cmake -DINPUT=report.css -DOUTPUT=report_css.cc -DHEADER=controller/report_html.h -DNAME=report_css -P embed_text.cmake
# Writes a function that returns the file's text, so that the controller is one file.
file(READ "${INPUT}" text)
file(WRITE "${OUTPUT}" "#include \"${HEADER}\"

namespace gpustrap {

std::string_view ${NAME}() { return R\"gpustrap(${text})gpustrap\"; }

}  // namespace gpustrap
")
