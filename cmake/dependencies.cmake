# Debian's libraries behind libvlmamba. All are private: no public header names one.

find_package(nlohmann_json 3.11 REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(spdlog 1.10 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(JPEG REQUIRED)
find_package(PNG REQUIRED)
find_package(ZLIB REQUIRED)
find_package(GIF REQUIRED)
find_path(VLMAMBA_WEBP_INCLUDE webp/decode.h REQUIRED)
find_library(VLMAMBA_WEBP_LIBRARY webp REQUIRED)
find_library(VLMAMBA_WEBPDEMUX_LIBRARY webpdemux REQUIRED)
find_path(VLMAMBA_UTF8PROC_INCLUDE utf8proc.h REQUIRED)
find_library(VLMAMBA_UTF8PROC_LIBRARY utf8proc REQUIRED)

add_library(vlmamba_pictures INTERFACE IMPORTED)
target_include_directories(vlmamba_pictures SYSTEM INTERFACE
  "${VLMAMBA_WEBP_INCLUDE}" "${JPEG_INCLUDE_DIRS}" "${PNG_INCLUDE_DIRS}" "${GIF_INCLUDE_DIRS}")
target_link_libraries(vlmamba_pictures INTERFACE
  JPEG::JPEG PNG::PNG "${GIF_LIBRARIES}" "${VLMAMBA_WEBPDEMUX_LIBRARY}" "${VLMAMBA_WEBP_LIBRARY}" Threads::Threads)

add_library(vlmamba_utf8proc INTERFACE IMPORTED)
target_include_directories(vlmamba_utf8proc SYSTEM INTERFACE "${VLMAMBA_UTF8PROC_INCLUDE}")
target_link_libraries(vlmamba_utf8proc INTERFACE "${VLMAMBA_UTF8PROC_LIBRARY}")
