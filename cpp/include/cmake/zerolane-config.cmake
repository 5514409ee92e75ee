# find_package(zerolane) for libraries of ops. `python -m zerolane.cmake` prints the folder of this file, for
# -Dzerolane_DIR=...; builds through scikit-build-core find it by themselves. Wants CMake 3.20.
#
#   zerolane::kit              the headers (zerolane/op.h), C++17
#   zerolane_add_ops(my_ops ops.cpp gelu.cu)
#                              libmy_ops.so from these sources, exporting the ops alone. nvcc compiles the .cu files where it is
#                              found (zerolane-nvcc.cmake says how, and what ZEROLANE_CUDA does), with the CUDA runtime
#                              linked statically; elsewhere they are compiled as plain C++, so keep CUDA bodies within
#                              #if defined(__CUDACC__).
#   ZEROLANE_HAS_NVCC          whether .cu files become code for GPUs
#
# Definitions, include folders and libraries that are later added to the target hold for .cu files too.
include("${CMAKE_CURRENT_LIST_DIR}/zerolane-nvcc.cmake")

if(NOT TARGET zerolane::kit)
  get_filename_component(zerolane_INCLUDE_DIR "${CMAKE_CURRENT_LIST_DIR}/../../../include" ABSOLUTE)
  add_library(zerolane::kit INTERFACE IMPORTED)
  target_include_directories(zerolane::kit INTERFACE "${zerolane_INCLUDE_DIR}")
  target_compile_features(zerolane::kit INTERFACE cxx_std_17)
endif()

function(zerolane_add_ops target)
  if(NOT ARGN)
    message(FATAL_ERROR "zerolane_add_ops(${target}): no sources were given, expected at least one")
  endif()
  set(cuda_sources ${ARGN})
  list(FILTER cuda_sources INCLUDE REGEX "\\.cu$")
  add_library(${target} MODULE ${ARGN})
  set_target_properties(${target} PROPERTIES
    PREFIX lib POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  target_link_libraries(${target} PRIVATE zerolane::kit)
  set(exports "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/zerolane-ops.map")
  target_link_options(${target} PRIVATE "-Wl,--version-script=${exports}")
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS "${exports}")
  if(ZEROLANE_HAS_NVCC AND cuda_sources)
    foreach(source ${cuda_sources})
      zerolane_cuda_object(${target} "${source}")
    endforeach()
    find_package(Threads REQUIRED)
    target_include_directories(${target} SYSTEM PRIVATE "${ZEROLANE_CUDA_INCLUDE}")
    target_link_libraries(${target} PRIVATE "${ZEROLANE_CUDART}" Threads::Threads ${CMAKE_DL_LIBS} rt)
  elseif(cuda_sources)
    set_source_files_properties(${cuda_sources} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-x;c++")
  endif()
  set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX)
endfunction()

# Compiles one source with nvcc, called by hand: CMake's own CUDA language links test programs, for which nvcc looks in a
# folder that the wheels do not have.
function(zerolane_cuda_object target source)
  get_filename_component(source_path "${source}" ABSOLUTE)
  string(SHA1 digest "${source_path}")
  string(SUBSTRING "${digest}" 0 8 digest)
  get_filename_component(stem "${source}" NAME)
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/${target}.cuda")
  set(object "${folder}/${stem}.${digest}.o")
  file(MAKE_DIRECTORY "${folder}")

  # The host compiler has the flags that it has for the other sources; nvcc takes a comma for the end of a flag.
  set(host_flags -fPIC -fvisibility=hidden -fvisibility-inlines-hidden)
  string(TOUPPER "${CMAKE_BUILD_TYPE}" configuration)
  separate_arguments(project_flags NATIVE_COMMAND "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${configuration}}")
  set(options "")
  foreach(flag ${host_flags} ${project_flags})
    string(REPLACE "," "\\," flag "${flag}")
    list(APPEND options "-Xcompiler=${flag}")
  endforeach()

  set(includes "$<FILTER:$<TARGET_PROPERTY:${target},INCLUDE_DIRECTORIES>,EXCLUDE,^$>")
  set(definitions "$<FILTER:$<TARGET_PROPERTY:${target},COMPILE_DEFINITIONS>,EXCLUDE,^$>")
  add_custom_command(
    OUTPUT "${object}"
    COMMAND "${ZEROLANE_NVCC}" -std=c++17 ${ZEROLANE_CUDA_ARCHITECTURES} -ccbin "${CMAKE_CXX_COMPILER}"
      -allow-unsupported-compiler ${options}
      "$<$<BOOL:${includes}>:-I$<JOIN:${includes},;-I>>" "$<$<BOOL:${definitions}>:-D$<JOIN:${definitions},;-D>>"
      -MD -MF "${object}.d" -c "${source_path}" -o "${object}"
    DEPENDS "${source_path}"
    DEPFILE "${object}.d"
    COMMENT "Compiling ${source} for GPUs" VERBATIM COMMAND_EXPAND_LISTS)
  target_sources(${target} PRIVATE "${object}")
  # The source is listed for the reader of the project; the object is what is linked.
  set_source_files_properties("${source_path}" PROPERTIES HEADER_FILE_ONLY ON)
endfunction()
