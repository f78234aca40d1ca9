# cmake --install, and what find_package(vlmamba) reads afterwards.

include(CMakePackageConfigHelpers)
set(_package "${CMAKE_INSTALL_LIBDIR}/cmake/vlmamba")

install(TARGETS vlmamba_ops vlmamba EXPORT vlmamba-targets)
install(DIRECTORY include/vlmamba DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
if(TARGET vlmamba_program)
  install(TARGETS vlmamba_program)
endif()
install(EXPORT vlmamba-targets NAMESPACE vlmamba:: DESTINATION "${_package}")

configure_package_config_file(cmake/vlmamba-config.cmake.in vlmamba-config.cmake
  INSTALL_DESTINATION "${_package}" NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(vlmamba-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  "${CMAKE_CURRENT_BINARY_DIR}/vlmamba-config.cmake"
  "${CMAKE_CURRENT_BINARY_DIR}/vlmamba-config-version.cmake"
  cmake/libtorch.cmake
  DESTINATION "${_package}")
